"""Scores of a confusion matrix: intersection over union, and what incremental learning asks.

Light on purpose: a report computes them from stored matrices without torch.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike


@dataclass(frozen=True)
class ConfusionScores:
    """Scores after a step, in percent; None where a score has nothing to be about.

    Attributes:
        iou: by channel, background first; None for a class that is absent and does not count.
        miou_all: mean IoU of background and all seen classes.
        miou_old: of background and step 0's classes.
        miou_new: of all classes of later steps; None at step 0.
        hiou: harmonic mean of miou_old and miou_new; None at step 0.
        pixel_accuracy: share of pixels that are right.
        class_accuracy: mean over classes of the share of their pixels that are right.
    """

    iou: tuple[float | None, ...]
    miou_all: float | None
    miou_old: float | None
    miou_new: float | None
    hiou: float | None
    pixel_accuracy: float | None
    class_accuracy: float | None


def scores(matrix: ArrayLike, counts: Sequence[int], absent_classes_count: bool) -> ConfusionScores:
    """The scores of a confusion matrix.

    Args:
        matrix: ``(1 + K) x (1 + K)`` counts of pixels, true channels by row.
        counts: number of classes by step, K in all.
        absent_classes_count: a class without a true or predicted pixel has IoU 0 instead of
            none (:attr:`dkd.scenario.protocols.Protocol.absent_classes_count`); likewise for class
            accuracy and classes without a true pixel.

    Raises:
        ValueError: the matrix has not ``1 + K`` rows and columns.
    """
    cells = np.asarray(matrix, dtype=np.int64)
    if cells.shape != (1 + sum(counts),) * 2:
        raise ValueError(f"a matrix of shape {cells.shape} for 1 + {sum(counts)} classes")
    right, true, predicted = np.diag(cells), cells.sum(1), cells.sum(0)
    absent = 0.0 if absent_classes_count else None

    def percent(part: Iterable[int], whole: Iterable[int]) -> list[float | None]:
        return [100.0 * p / w if w else absent for p, w in zip(part, whole, strict=True)]

    iou = percent(right.tolist(), (true + predicted - right).tolist())
    first = 1 + counts[0]
    old, new = _mean(iou[:first]), _mean(iou[first:])
    pixels = int(cells.sum())
    return ConfusionScores(
        iou=tuple(iou),
        miou_all=_mean(iou),
        miou_old=old,
        miou_new=new,
        hiou=None if old is None or new is None else 2 * old * new / (old + new or 1.0),
        pixel_accuracy=100.0 * int(right.sum()) / pixels if pixels else None,
        class_accuracy=_mean(percent(right.tolist(), true.tolist())),
    )


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None
