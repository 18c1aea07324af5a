"""Cost as work grows: per unit of work it must not rise.

    python -m benchmarks --only growth

Each figure is the cost of a unit (an image, a class) at the largest amount, beside that at the
smallest: a ratio of at least 1 is linear or better. A tenth is allowed for noise.
"""

import tempfile
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch

from benchmarks import losses
from benchmarks.cases import CASES, Size, models
from benchmarks.loading import made
from benchmarks.rows import CPU, GPU, Row, cpu_seconds
from dkd.data.loading import Draw, EvaluationImages, StepBatches
from dkd.evaluation.confusion import ConfusionMatrix
from dkd.evaluation.evaluator import evaluated
from dkd.memory.selection import Candidate, choose
from dkd.network.preparation import prepare_frozen
from dkd.network.speed import decided
from dkd.scenario.speed import Speed

GROUP = "growth"
FACTORS = (1, 2, 4, 8)
LEAST = 0.9


def grown(
    what: str,
    unit: str,
    scale: float,
    work: Callable[[int], object],
    amounts: list[int],
    **more: str,
) -> Row:
    """Cost of a unit at the largest amount beside the smallest; all are in the note.

    Each amount is done as often as makes the largest, so that all have the same luck; the least of
    three rounds counts.

    Args:
        what: is measured.
        unit: of the cost.
        scale: units in a second.
        work: does an amount of work.
        amounts: ascending.
        more: of the row.
    """

    def round_of(amount: int) -> float:
        often = amounts[-1] // amount
        seconds = cpu_seconds(lambda: [work(amount) for _ in range(often)], 1)
        return scale * seconds / (often * amount)

    work(amounts[0])
    rounds = [[round_of(amount) for amount in amounts] for _ in range(3)]
    each = [min(costs) for costs in zip(*rounds, strict=True)]
    told = ", ".join(f"{n:,}: {cost:.3g}" for n, cost in zip(amounts, each, strict=True))
    return Row(
        GROUP, what, unit, each[-1], baseline=each[0], limits="ratio", limit=LEAST, predicted=1.0,
        note=f"{told}{'; ' + more['note'] if 'note' in more else ''}",
    )  # fmt: skip


def loading(base: int, crop: int) -> list[Row]:
    found = []
    for name in ("VOC", "ADE20K"):
        with tempfile.TemporaryDirectory() as place:
            images, records, _ = made(Path(place), name, base, crop)
            files = len(records)

            def load(count: int, images=images, files=files) -> None:
                for k in range(count):
                    images[Draw(k % files, 0, k)]

            amounts = [base * factor for factor in FACTORS]
            found.append(grown(f"loading, {name}", "ms/image", 1e3, load, amounts))
    return found


def order(base: int) -> Row:
    """An epoch's order and batches."""
    return grown(
        "an epoch's order", "us/image", 1e6,
        lambda count: deque(StepBatches(count, 32, seed=1).batches(0), maxlen=0),  # none is kept
        [base * factor for factor in FACTORS],
    )  # fmt: skip


def evaluation(base: int, size: Size) -> Row:
    case = CASES["voc"]
    speed = decided(Speed(), gpu=False)
    model = prepare_frozen(models(case, size)[0], speed)
    with tempfile.TemporaryDirectory() as place:
        _, records, _ = made(Path(place), "VOC", 4, size.crop)
        table = np.zeros(256, np.uint8)

        def evaluate(count: int) -> None:
            shown = [records[k % len(records)] for k in range(count)]
            images = EvaluationImages(shown, Path(place), table, size.crop, whole=True)
            evaluated(model, [images], ConfusionMatrix(1 + case.old), torch.device("cpu"), speed)

        amounts = [base * factor for factor in FACTORS]
        note = f"{size.backbone}, short side {size.crop}"
        return grown("evaluation", "ms/image", 1e3, evaluate, amounts, note=note)


def memory(base: int, classes: int) -> Row:
    """Choosing as many exemplars as a hundredth of the candidates, at least one a class."""
    rng = np.random.default_rng(0)
    held = [frozenset(rng.integers(1, classes + 1, 3).tolist()) for _ in range(base * FACTORS[-1])]
    candidates = [Candidate(f"{k:08d}", found) for k, found in enumerate(held)]
    old = range(1, classes + 1)

    def select(count: int) -> None:
        choose(candidates[:count], old, max(classes, count // 100), seed=1)

    amounts = [base * factor for factor in FACTORS]
    return grown(f"choosing exemplars, {classes} classes", "us/candidate", 1e6, select, amounts)


def loss(crop: int, counts: list[int]) -> Row:
    data = {classes: losses.inputs(classes, 1, crop, "cpu") for classes in counts}

    def once(classes: int) -> None:
        student, teacher, label = data[classes]
        learned = (student.logits, student.positive, student.negative)
        torch.autograd.grad(losses.ours(student, teacher, label), learned)

    return grown("losses", "ms/class", 1e3, once, counts, note=f"one crop of {crop}")


def rows(quick: bool, on: Sequence[str] = (CPU, GPU)) -> list[Row]:
    if CPU not in on:
        return []
    if quick:
        found = [order(100), evaluation(1, Size("demo", 32, 1, 16)), memory(50, 20)]
        return [*found, loss(32, [4, 8])]
    return [
        *loading(12, 512),
        order(10_000),
        evaluation(4, Size("resnet18", 128, 1)),
        memory(10_000, 20),
        memory(10_000, 150),
        loss(512, [20, 150, 1000]),
    ]
