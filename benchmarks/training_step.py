"""A training step beside a plain one, every means alone, and what it takes of memory.

    python -m benchmarks --only training_step

On a GPU at the published size (ResNet-101, crops of 512), on a CPU at a small one (ResNet-18,
crops of 192, one thread). Each variant runs in a process of its own, for its peak of memory. The
plain step is :mod:`benchmarks.plain_step`; "all off" is our loop with every switch off, and each
means is that with one switch on.
"""

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import memory
from benchmarks.cases import CASES, PLAIN, Case, Size, alone, batch, models, trainer
from benchmarks.memory import peak_since, reset_peak
from benchmarks.plain_step import PlainStep
from benchmarks.rows import CPU, GPU, Row, cpu_seconds, wall_seconds

GROUP = "training step"
PUBLISHED = {name: Size("resnet101", 512, case.batch) for name, case in CASES.items()}
SMALL = Size("resnet18", 192, 2)
TINY = Size("demo", 32, 2, 16)

# Switches that are on in a variant; "precision" is for a GPU.
ALL = {
    "block_losses": True,
    "fold_norms": True,
    "channels_last": True,
    "unshuffled_stem": True,
    "fused_optimiser": True,
}
MEANS: dict[str, dict[str, Any]] = {
    "all off": {},
    "losses by blocks": {"block_losses": True},
    "normalisation folded": {"fold_norms": True},
    "channels last": {"channels_last": True},
    "unshuffled stem": {"unshuffled_stem": True},
    "fused optimiser": {"fused_optimiser": True},
    "all": ALL,
}
# On a GPU there are more, and what each brings shows when it alone is left out.
ALL_ON_GPU = {**ALL, "triton_losses": True, "triton_pooling": True, "recorded": True}
GPU_MEANS: dict[str, dict[str, Any]] = {
    **MEANS,
    "losses in one kernel": {"block_losses": True, "triton_losses": True},
    "recorded": {"recorded": True},
    "all": ALL_ON_GPU,
    **{
        f"all but {told}": {**ALL_ON_GPU, switch: False}
        for told, switch in (
            ("normalisation folded", "fold_norms"),
            ("channels last", "channels_last"),
            ("unshuffled stem", "unshuffled_stem"),
            ("losses in one kernel", "triton_losses"),
            ("pooling in one kernel", "triton_pooling"),
            ("fused optimiser", "fused_optimiser"),
            ("recorded", "recorded"),
        )
    },
}
# Of these the peak is told.
IN_MEMORY = (
    "losses by blocks",
    "losses in one kernel",
    "normalisation folded",
    "all",
    "all but recorded",
)
GPU_LIMITS = {"voc": 2.5, "ade": 3.0}
GPU_PREDICTED = {"voc": 2.1, "ade": 2.3}
GPU_RATE_PREDICTED = {"voc": 39.0, "ade": 32.0}  # percent
CPU_PREDICTED = {"voc": 1.3, "ade": 1.6}
GFLOP_PER_IMAGE = 406 + 136


def measure(case: Case, size: Size, variant: str, device: str, repeats: int) -> dict[str, float]:
    """Seconds per image, bytes at the peak, and the first loss.

    On a CPU of the fastest iteration; on a GPU of the fastest of three rounds of iterations that
    nothing separates, as in training. Bytes are on a CPU what the iterations add to what models
    and batch take; on a GPU all that PyTorch holds of its memory.
    """
    torch.set_num_threads(1)
    gpu = device == "cuda"
    reset_peak(device)
    data = batch(case, size, size.batch, torch.device(device))
    if variant == "plain":
        plain = PlainStep(case, size, device)
        step = lambda: plain.train_step(data)  # noqa: E731
    else:
        precision = "fp16" if variant == "all off" else "bf16"
        switches = {**PLAIN, **(GPU_MEANS if gpu else MEANS)[variant]}
        ours = trainer(case, size, switches, ranks=alone(device), precision=precision)
        step = lambda: ours.train_step(data)["total"]  # noqa: E731
    base = reset_peak(device)
    first = float(step())
    if gpu:
        for _ in range(2):
            step()

        def some() -> None:
            for _ in range(repeats):
                step()

        seconds = min(wall_seconds(some) for _ in range(3)) / repeats
    else:
        seconds = cpu_seconds(step, repeats)
    return {
        "seconds": seconds / size.batch,
        "bytes": peak_since(device, 0 if gpu else base),
        "loss": first,
    }


def in_a_process(
    name: str, size: Size, variant: str, device: str, repeats: int
) -> dict[str, float]:
    job = json.dumps([name, vars(size), variant, device, repeats])
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.training_step", job],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    return json.loads(done.stdout.splitlines()[-1])


def rows(quick: bool, on: Sequence[str] = (CPU, GPU)) -> list[Row]:
    found = []
    if CPU in on:
        found += work_rows(quick)
        found += measured_rows("cpu", quick)
    if GPU not in on:
        return found
    if torch.cuda.is_available():
        found += measured_rows("cuda", quick)
        return found
    for name, case in CASES.items():
        at = PUBLISHED[name].told()
        limited = {"device": GPU, "better": "more", "note": at}
        found += [
            Row(
                GROUP,
                f"{case.name}, all",
                "images/s",
                limits="ratio",
                limit=GPU_LIMITS[name],
                predicted=GPU_PREDICTED[name],
                **limited,
            ),
            Row(
                GROUP,
                f"{case.name}, all, of the bf16 rate",
                "%",
                predicted=GPU_RATE_PREDICTED[name],
                **limited,
            ),
            Row(
                "memory",
                f"{case.name}, all, peak of an iteration",
                "MiB",
                device=GPU,
                limits="ratio",
                limit=memory.LIMIT,
                predicted=less_memory(case, PUBLISHED[name]),
                note=at,
            ),
        ]
    return found


def measured_rows(device: str, quick: bool) -> list[Row]:
    gpu, found = device == "cuda", []
    rate = matrix_rate() if gpu else None
    for name, case in CASES.items():
        size = PUBLISHED[name] if gpu else SMALL
        variants = ["plain", *(GPU_MEANS if gpu else MEANS)]
        if quick:
            size, variants = TINY, ["plain", "all"]
            results = {v: measure(case, size, v, device, 1) for v in variants}
        elif gpu:
            results = {v: measure(case, size, v, device, 4) for v in variants}
        else:  # each in a process of its own, for its peak
            results = {v: in_a_process(name, size, v, device, 3) for v in variants}
        plain = results.pop("plain")
        for variant, result in results.items():
            gap = abs(result["loss"] - plain["loss"]) / abs(plain["loss"])
            assert gap < (2e-2 if gpu else 1e-3), f"{case.name}, {variant}: losses differ by {gap}"
            whole = variant == "all"
            found.append(
                Row(
                    GROUP,
                    f"{case.name}, {variant}",
                    "images/s",
                    1 / result["seconds"],
                    device=GPU if gpu else CPU,
                    baseline=1 / plain["seconds"],
                    better="more",
                    limits="ratio",
                    limit=GPU_LIMITS[name] if whole and gpu else None,
                    predicted=(GPU_PREDICTED if gpu else CPU_PREDICTED)[name] if whole else None,
                    note=size.told(),
                )
            )
            if variant in IN_MEMORY:
                found.append(
                    Row(
                        "memory",
                        f"{case.name}, {variant}, peak of an iteration",
                        "MiB",
                        result["bytes"] / 2**20,
                        device=GPU if gpu else CPU,
                        baseline=plain["bytes"] / 2**20,
                        limits="ratio",
                        limit=memory.LIMIT if whole and gpu else None,
                        predicted=less_memory(case, size) if whole and gpu else None,
                        note=size.told(),
                    )
                )
        if rate is not None:
            share = GFLOP_PER_IMAGE * 1e9 / results["all"]["seconds"] / rate
            found.append(
                Row(
                    GROUP,
                    f"{case.name}, all, of the bf16 rate",
                    "%",
                    100 * share,
                    device=GPU,
                    better="more",
                    predicted=GPU_RATE_PREDICTED[name],
                    note=f"{rate / 1e12:.0f} TFLOP/s measured",
                )
            )
            found += largest_rows(case, size, results["all"]["bytes"])
    return found


def largest_rows(case: Case, size: Size, peak: float) -> list[Row]:
    """The largest batch that a card holds, from the peaks at one batch and at four times that."""
    more = measure(case, replace(size, batch=4 * size.batch), "all", "cuda", 1)["bytes"]
    each = (more - peak) / (3 * size.batch)
    fixed = peak - size.batch * each
    on_paper = memory.predicted(case, size, True)
    return [
        Row(
            "memory",
            memory.largest(case, card),
            "images",
            int((card * 1e9 - memory.CONTEXT - fixed) // each),
            device=GPU,
            predicted=on_paper.largest(card),
            better="more",
            note=f"{fixed / 1e9:.1f} GB and {each / 1e6:.0f} MB an image, measured with "
            f"{size.batch} and {4 * size.batch}",
        )
        for card in memory.CARDS
    ]


def less_memory(case: Case, size: Size) -> float:
    """How many times less an iteration takes than a plain one, on paper."""
    plain, ours = (memory.predicted(case, size, which) for which in (False, True))
    return plain.of(size.batch) / ours.of(size.batch)


def work_rows(quick: bool) -> list[Row]:
    """The arithmetic of an image, counted without doing it; heads and losses are left out."""
    size = Size("demo", 64, 1, 16) if quick else Size("resnet101", 512, 1)
    with torch.device("meta"):
        teacher, student = models(CASES["voc"], size)
        image = torch.empty(1, 3, size.crop, size.crop)
    counts = []
    for model, backward in ((teacher.eval().requires_grad_(False), False), (student, True)):
        with FlopCounterMode(display=False) as counter:
            features = model.features(image)
            if backward:
                features.sum().backward()
        counts.append(counter.get_total_flops() / 1e9)
    expected = (None, None) if quick else (136, 406)
    return [
        Row(GROUP, f"arithmetic, {what}", "GFLOP/image", count, predicted=known, note=size.told())
        for what, count, known in zip(("teacher", "student"), counts, expected, strict=True)
    ]


def matrix_rate() -> float:
    """FLOP/s of a large bf16 matrix product of random numbers on this GPU."""
    a, b = (torch.randn(8192, 8192, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    a @ b
    return 2 * 8192**3 / min(wall_seconds(lambda: a @ b) for _ in range(20))


if __name__ == "__main__":
    name_, size_, variant_, device_, repeats_ = json.loads(sys.argv[1])
    print(json.dumps(measure(CASES[name_], Size(**size_), variant_, device_, repeats_)))
