"""Scoring any checkpoint on any data set that has some of its classes."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from dkd.data import labels, packed, splits
from dkd.data.index import Dataset
from dkd.data.loading import EvaluationImages
from dkd.data.records import Record, Records
from dkd.errors import UserError
from dkd.evaluation.confusion import ConfusionMatrix
from dkd.evaluation.evaluator import evaluated
from dkd.evaluation.intervals import Interval, ScoreIntervals, intervals
from dkd.evaluation.scores import ConfusionScores, scores
from dkd.network.deeplab import SegmentationModel
from dkd.network.preparation import prepare_frozen
from dkd.network.speed import decided
from dkd.scenario.names import BACKGROUND_NAME
from dkd.scenario.protocols import Protocol
from dkd.scenario.speed import Speed
from dkd.scenario.tasks import Task
from dkd.storage import artifacts
from dkd.storage.cache import artifact_cache
from dkd.training.ranks import Ranks

# Loader processes per rank beside a GPU; a CPU is busy with the network.
GPU_WORKERS = 8


@dataclass(frozen=True)
class Result:
    """What was scored, and how well.

    Attributes:
        task: class names by step.
        protocol: name of the protocol.
        images: number of images that hold one of the classes.
        absent: classes that the data set does not know.
        confusion: pixel counts, rows truth, columns prediction, by channel.
        scores: of it, in percent.
        intervals: of the scores, over the images.
    """

    task: Task
    protocol: str
    images: int
    absent: tuple[str, ...]
    confusion: tuple[tuple[int, ...], ...]
    scores: ConfusionScores
    intervals: ScoreIntervals

    def document(self) -> dict[str, Any]:
        """As JSON."""
        classes = [list(names) for names in self.task.steps]
        return asdict(self) | {"task": classes}


def score(
    model: SegmentationModel,
    description: Mapping[str, Any],
    dataset: Dataset,
    split: str,
    protocol: Protocol,
    ranks: Ranks,
    progress: Callable[[int, int], None],
) -> Result:
    """Scores a model on the images of a split that hold a class it knows.

    Args:
        model: the checkpoint's; it is prepared for speed in place.
        description: likewise (:mod:`dkd.network.checkpoint`).
        dataset: in a folder or packed; its classes are matched by name.
        split: ``train`` or ``validation``.
        protocol: how images and absent classes count.
        ranks: this process's place; every rank has the result.
        progress: called with this rank's images done and all of them.

    Raises:
        UserError: the data set has none of the classes, or no image of them.
    """
    task = Task(tuple(tuple(names) for names in description["classes"]))
    last = len(task.steps) - 1
    absent = _absent(dataset, task)
    records = _records(dataset, split, task)
    images = EvaluationImages(
        records,
        images_folder(dataset, records),
        labels.test_table(dataset, task, last),
        crop=int(description["training"]["crop"]),
        whole=protocol.whole_image_evaluation,
        rank=ranks.rank,
        world_size=ranks.world_size,
    )
    gpu = ranks.device.type == "cuda"
    speed = decided(Speed(), gpu)
    matrix = ConfusionMatrix(
        model.classes + 1, ranks.device, ranks.sum, model.reading, len(records)
    )
    counts = evaluated(
        prepare_frozen(model.to(ranks.device), speed),
        [images],
        matrix,
        ranks.device,
        speed,
        workers=GPU_WORKERS if gpu else 0,
        progress=progress,
    ).tolist()
    return Result(
        task=task,
        protocol=protocol.name,
        images=len(records),
        absent=absent,
        confusion=tuple(map(tuple, counts)),
        scores=scores(counts, task.counts, protocol.absent_classes_count),
        intervals=intervals(matrix.by_image(), task.counts, protocol.absent_classes_count),
    )


Rows = list[tuple[str, str, str, str]]


def table(result: Result) -> tuple[Rows, Rows]:
    """IoU of every class below the columns' names, and the means; in percent, with intervals."""
    found, within = result.scores, result.intervals
    classes = [("step", "class", "IoU", "95 % interval")]
    classes.append(("", BACKGROUND_NAME, _percent(found.iou[0]), _ends(within.iou[0])))
    values = iter(zip(found.iou[1:], within.iou[1:], strict=True))
    for step, names in enumerate(result.task.steps):
        for name in names:
            iou, interval = next(values)
            classes.append((str(step), name, _percent(iou), _ends(interval)))
    means = (
        ("mIoU_old", found.miou_old, within.miou_old),
        ("mIoU_new", found.miou_new, within.miou_new),
        ("mIoU_all", found.miou_all, within.miou_all),
        ("hIoU", found.hiou, within.hiou),
        ("pixel accuracy", found.pixel_accuracy, within.pixel_accuracy),
    )
    return classes, [("", name, _percent(v), _ends(interval)) for name, v, interval in means]


def _absent(dataset: Dataset, task: Task) -> tuple[str, ...]:
    """The classes that the data set does not know."""
    absent = tuple(name for name in task.classes if name not in dataset.values)
    if len(absent) == len(task.classes):
        raise UserError(
            f"{dataset.name}: has none of the model's classes ({', '.join(task.classes[:10])}, ...)"
        )
    return absent


def _records(dataset: Dataset, split: str, task: Task) -> Records:
    """What :func:`dkd.data.splits.test` gives of the validation images, of any split."""
    tested = replace(dataset, splits={**dataset.splits, "validation": dataset.splits[split]})
    records = splits.test(tested, task, len(task.steps) - 1)
    if not records:
        raise UserError(f"{dataset.name}: no {split} image holds a class of the model")
    return records


def images_folder(dataset: Dataset, records: Sequence[Record]) -> Path:
    """In which images of a data set lie on this machine; packed ones are fetched."""
    if dataset.format != "packed":
        return Path(dataset.root)
    return packed.materialise(dataset, artifacts.load(dataset.root), records, artifact_cache())


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def _ends(interval: Interval | None) -> str:
    return "–" if interval is None else "{:.1f} to {:.1f}".format(*interval)
