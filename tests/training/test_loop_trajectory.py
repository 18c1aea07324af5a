"""Three whole steps of the authors' trainer, in float64: losses, states, rates, scores.

Trainer, optimiser, ``deeplab.grow`` and evaluation together against ``trajectory_golden.npz``
(tests/reference/README.md says how it was made and how to make its inputs).
"""

import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from golden_weights import made_state
from safetensors.torch import load_file, save_file
from torch import Tensor

from dkd.data import labels
from dkd.data.index import Dataset
from dkd.data.loading import Source, StepImages
from dkd.data.records import Record
from dkd.evaluation.confusion import ConfusionMatrix
from dkd.evaluation.scores import scores
from dkd.methods.base import Circumstances
from dkd.network.deeplab import SegmentationModel, build
from dkd.network.prediction import segment
from dkd.network.preparation import prepare_frozen, prepare_images
from dkd.network.speed import decided
from dkd.scenario.class_names import VOC_CLASSES
from dkd.scenario.schema import Scenario, parse
from dkd.steps.step import Step, StepSpec
from dkd.training.loop import Trainer
from dkd.training.ranks import Ranks

COUNTS = (15, 1, 1)
ITERATIONS, BATCH, CROP = 3, 4, 97
ALONE = Ranks(0, 1, 0, torch.device("cpu"), None)

PLAIN: dict[str, bool] = {"block_losses": False}
FAST = {
    "block_losses": True,
    "channels_last": True,
    "fold_norms": True,
    "unshuffled_stem": True,
    "fused_optimiser": True,
}
# Of the largest change of a tensor over a step; see the README of the reference figures.
TOLERANCE = {"plain": 1e-6, "fast": 1e-3}


def scenario(speed: dict[str, bool]) -> Scenario:
    document = {
        "name": "trajectory",
        "data": {"format": "voc", "root": "made"},
        "task": [list(names) for names in names_by_step()],
        "method": "dkd",
        "protocol": "paper",
        "network": {"backbone": "resnet101"},
        "training": {
            "epochs": {"first": 1, "later": 1},
            "batch_size": BATCH,
            "crop": CROP,
            "lr": {"first": 1e-3, "later": 5e-3},
            "pos_weight": {"first": 2, "later": 1},
            "precision": "fp32",
            "loader_workers": 0,
        },
        "speed": speed,
    }
    return parse(document, source="test")


def names_by_step() -> tuple[tuple[str, ...], ...]:
    names = list(VOC_CLASSES.values())
    return tuple(
        tuple(names[sum(COUNTS[:step]) : sum(COUNTS[: step + 1])]) for step in range(len(COUNTS))
    )


def dataset() -> Dataset:
    return Dataset(
        name="made",
        format="voc",
        root="made",
        classes=dict(VOC_CLASSES),
        palette={},
        future_is_void=False,
        splits={"train": (), "validation": ()},
    )


def enlarged(small: np.ndarray, height: int, width: int) -> np.ndarray:
    rows, columns = np.arange(height) * 9 // height, np.arange(width) * 9 // width
    return small[:, rows][:, :, columns].astype(np.uint8)


def batch(step: Step, number: int, iteration: int) -> dict[str, Tensor]:
    """A training batch as the loader would give it, made by the README's rule."""
    rng = np.random.default_rng([20221121, number, iteration])
    image = rng.normal(0, 1, (BATCH, 3, CROP, CROP))
    new = [list(range(1, 16)), [16] * 8, [17] * 8][number]
    values = np.array(new + [0] * 5 + [255] * 2 + list(range(1, 21)))
    raw = enlarged(rng.choice(values, (BATCH, 9, 9)), CROP, CROP)
    table = labels.training_table(step.dataset, step.task, number)
    return {
        "image": torch.from_numpy(image),
        "label": torch.from_numpy(table[raw]),
        "covered": torch.from_numpy(labels.covered(step.task, number, BATCH)),
    }


def test_images(step: Step, number: int) -> Iterator[tuple[Tensor, Tensor]]:
    rng = np.random.default_rng([20221122, number])
    images = rng.normal(0, 1, (3, 3, 113, 129))
    raw = enlarged(rng.choice(np.arange(22), (3, 9, 9)), 113, 129)
    raw[raw == 21] = 255
    truth = labels.test_table(step.dataset, step.task, number)[raw]
    for image, label in zip(torch.from_numpy(images), torch.from_numpy(truth), strict=True):
        yield image[None], label[None]


test_images.__test__ = False  # type: ignore[attr-defined]  # the step's, not pytest's


@dataclass
class Change:
    """How a tensor looks after a step, and how it changed over it."""

    size: int
    total: float
    norm: float
    change_norm: float
    change_max: float
    entries: np.ndarray
    """Of the change, at the places that the README names."""


def change(key: str, start: Tensor, end: Tensor) -> Change:
    after = end.flatten().numpy()
    moved = after - start.flatten().numpy()
    rng = np.random.default_rng(zlib.crc32(f"entry {key}".encode()))
    return Change(
        size=after.size,
        total=float(after.sum()),
        norm=float(np.linalg.norm(after)),
        change_norm=float(np.linalg.norm(moved)),
        change_max=float(np.abs(moved).max()),
        entries=moved[rng.integers(0, after.size, 3)],
    )


@dataclass
class Seen:
    """What our trainer did in a step."""

    terms: list[dict[str, float]] = field(default_factory=list)
    rates: list[dict[str, float]] = field(default_factory=list)
    decay: dict[str, float] = field(default_factory=dict)
    momentum: dict[str, float] = field(default_factory=dict)
    changes: dict[str, Change] = field(default_factory=dict)
    batches_tracked: set[int] = field(default_factory=set)
    confusion: Tensor = field(default_factory=lambda: torch.empty(0))


def state_of(model: SegmentationModel) -> dict[str, Tensor]:
    return {key: value.detach().clone().contiguous() for key, value in model.state_dict().items()}


def with_state(number: int, state: dict[str, Tensor]) -> SegmentationModel:
    model = build(scenario({}).network, COUNTS[: number + 1]).double()
    model.load_state_dict(state)
    return model


def step_done(
    number: int, teacher: SegmentationModel | None, speed: dict[str, bool]
) -> tuple[Seen, dict[str, Tensor]]:
    """A step of our trainer, and the state that it ends in."""
    given = scenario(speed)
    spec = StepSpec(scenario=given, task=names_by_step(), step=number, dataset="", root="")
    step = Step(spec, dataset(), None, None)
    if teacher is None:
        student = build(given.network, COUNTS[:1])
        student.load_state_dict(made_state(student))
        student.double()
    else:
        student = step.method.grow(teacher, COUNTS[number])
    for module in student.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    seen, start = Seen(), state_of(student)
    count = BATCH * ITERATIONS
    records = tuple(Record(str(i), "", "", CROP, CROP, (), "") for i in range(count))
    table = labels.training_table(step.dataset, step.task, number)
    covered = labels.covered(step.task, number, count)
    source = Source(records, Path("made"), table, covered, verify=False)
    given_to_method = Circumstances(
        given,
        number,
        images_differ=False,
        speed=decided(given.speed, gpu=False),
        average=ALONE.average,
        gather=ALONE.gather,
    )
    trainer = Trainer(
        step,
        step.method(student, teacher, given_to_method),
        StepImages([source], crop=CROP, seed=1),
        ALONE,
        say=lambda _line: None,
    )
    assert trainer.total == ITERATIONS
    trainer.student.train()
    names = {id(p): name for name, p in trainer.student.named_parameters()}
    for iteration in range(ITERATIONS):
        terms = trainer.train_step(batch(step, number, iteration))
        seen.terms.append({name: float(term) for name, term in terms.items()})
        seen.rates.append(
            {names[id(p)]: g["lr"] for g in trainer.optimiser.param_groups for p in g["params"]}
        )
    for group in trainer.optimiser.param_groups:
        for parameter in group["params"]:
            name = names[id(parameter)]
            seen.decay[name] = group["weight_decay"]
            seen.momentum[name] = float(
                trainer.optimiser.state[parameter]["momentum_buffer"].norm()
            )
    end = state_of(trainer.student)
    tracked = {key for key in end if key.endswith("num_batches_tracked")}
    seen.batches_tracked = {int(end[key]) for key in tracked}
    seen.changes = {key: change(key, start[key], end[key]) for key in end.keys() - tracked}
    model = prepare_frozen(with_state(number, end).eval(), trainer.speed)
    matrix = ConfusionMatrix(model.classes + 1)
    for image, label in test_images(step, number):
        prepared = prepare_images(image, model, trainer.speed)
        matrix.add(segment(model, prepared, (label.shape[-2], label.shape[-1])), label)
    seen.confusion = matrix.counts
    return seen, end


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Seen], Path]:
    """The three steps one after the other, and a folder with the states that they end in."""
    seen: list[Seen] = []
    folder = tmp_path_factory.mktemp("ends")
    for number in range(len(COUNTS)):
        one, end = step_done(number, teacher_of(number, folder), PLAIN)
        seen.append(one)
        save_file(end, folder / f"{number}.safetensors")
    return seen, folder


def teacher_of(number: int, folder: Path) -> SegmentationModel | None:
    if number == 0:
        return None
    return with_state(number - 1, load_file(folder / f"{number - 1}.safetensors"))


@pytest.fixture(scope="module", params=["plain", "fast"])
def trajectory(
    request: pytest.FixtureRequest, plain: tuple[list[Seen], Path]
) -> tuple[str, list[Seen]]:
    """The steps of the plain way, and of the speed switches: each of these from where the plain way
    ended, because batch normalisation at step 0 makes much of another rounding.
    """
    seen, folder = plain
    if request.param == "fast":
        seen = [step_done(n, teacher_of(n, folder), FAST)[0] for n in range(len(COUNTS))]
    return request.param, seen


@pytest.fixture(scope="module")
def golden(reference: Path) -> Any:
    with np.load(reference / "trajectory_golden.npz") as arrays:
        return {name.removeprefix("nodropout/"): arrays[name] for name in arrays}


STEPS = pytest.mark.parametrize("number", range(len(COUNTS)))


@STEPS
def test_losses(trajectory: tuple[str, list[Seen]], golden: Any, number: int) -> None:
    way, seen = trajectory
    rel = {"plain": 1e-8, "fast": 1e-3}[way]
    terms = ["mbce", "ac", "total"] + (["kd", "dkd_pos", "dkd_neg"] if number else [])
    for term in terms:
        ours = [iteration[term] for iteration in seen[number].terms]
        np.testing.assert_allclose(ours, golden[f"step{number}/{term}"], rtol=rel, err_msg=term)
    assert set(seen[number].terms[0]) == set(terms)


def moved(golden: Any, number: int, key: str) -> float:
    """How far a tensor has moved from the made weights: L2 norms of its changes, added up."""
    total = 0.0
    for step in range(number + 1):
        keys = golden[f"step{step}/keys"].tolist()
        if key in keys:
            row = golden[f"step{step}/sum_norm_changenorm_changemax"][keys.index(key)]
            total += float(row[2])
    return total


@STEPS
def test_states(trajectory: tuple[str, list[Seen]], golden: Any, number: int) -> None:
    way, steps = trajectory
    seen, tolerance = steps[number], TOLERANCE[way]
    keys = golden[f"step{number}/keys"].tolist()
    assert sorted(keys) == sorted(seen.changes)
    rows = golden[f"step{number}/sum_norm_changenorm_changemax"]
    entries = golden[f"step{number}/change_entries"]
    for key, (total, norm, change_norm, change_max), at in zip(keys, rows, entries, strict=True):
        ours = seen.changes[key]
        np.testing.assert_allclose(ours.entries, at, rtol=0, atol=tolerance * change_max)
        assert ours.change_max == pytest.approx(change_max, rel=tolerance, abs=0), key
        assert ours.change_norm == pytest.approx(change_norm, rel=tolerance, abs=0), key
        apart = tolerance * moved(golden, number, key) + 1e-13 * norm
        assert ours.norm == pytest.approx(norm, rel=0, abs=apart), key
        assert ours.total == pytest.approx(total, rel=0, abs=apart * np.sqrt(ours.size)), key


@STEPS
def test_what_is_optimised_and_how(
    trajectory: tuple[str, list[Seen]], golden: Any, number: int
) -> None:
    way, steps = trajectory
    seen = steps[number]
    names = golden[f"step{number}/optimised"].tolist()
    assert sorted(seen.decay) == sorted(names)
    decay = dict(zip(names, golden[f"step{number}/weight_decay"], strict=True))
    assert seen.decay == pytest.approx(decay, rel=1e-6)
    momentum = dict(zip(names, golden[f"step{number}/momentum_norm"], strict=True))
    assert seen.momentum == pytest.approx(momentum, rel={"plain": 1e-6, "fast": 1e-3}[way])
    for ours, expected in zip(seen.rates, golden[f"step{number}/rates"], strict=True):
        for name, rate in ours.items():
            group = ("backbone", "aspp", "cls").index(name.split(".")[0])
            if number and name.startswith(f"cls.{number + 1}."):
                group = 3
            assert rate == pytest.approx(expected[group], rel=1e-12), name


@STEPS
def test_batch_statistics_are_counted_at_step_0_alone(
    trajectory: tuple[str, list[Seen]], golden: Any, number: int
) -> None:
    _, steps = trajectory
    expected = set(golden[f"step{number}/batches_tracked"].tolist())
    assert steps[number].batches_tracked == expected


@STEPS
def test_evaluation(trajectory: tuple[str, list[Seen]], golden: Any, number: int) -> None:
    way, steps = trajectory
    ours, theirs = steps[number].confusion.numpy(), golden[f"step{number}/confusion"]
    # Equal to the pixel in the plain way; a speed switch may turn a pixel that is undecided.
    assert np.abs(ours - theirs).sum() <= {"plain": 0, "fast": 1e-3 * theirs.sum()}[way]
    found = scores(ours, COUNTS[: number + 1], absent_classes_count=True)
    at = {"plain": 1e-6, "fast": 0.5}[way]  # percent; the authors divide by union - 1e-6
    np.testing.assert_allclose(found.iou, golden[f"step{number}/iou"], rtol=0, atol=at)
