"""How much of a score is chance: confidence intervals over the test images.

Test images are drawn again and again with replacement, as many as there are (the bootstrap), and
the scores of each draw are computed. The interval is the *expanded percentile interval* (Hesterberg
2015, "What Teachers Should Know About the Bootstrap", section 3.3): the plain one is too narrow
where images are few, so quantiles further out are taken, as Student's t lies outside the normal
distribution. The number of images is that of those which truly hold the class; a class that fewer
than two hold can be anything. Draws are the same for the same number of images.

Light on purpose, like :mod:`dkd.evaluation.scores`.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike, NDArray

Interval = tuple[float, float]
"""Lower and upper end."""

DRAWS = 2000
CONFIDENCE = 0.95
_SEED = 2210_05941
_AT_ONCE = 1 << 24  # numbers of the table that says which images are drawn
Array = NDArray[np.float64]


@dataclass(frozen=True)
class ScoreIntervals:
    """Intervals of the figures of :class:`~dkd.evaluation.scores.ConfusionScores`, in percent.

    Attributes:
        iou: by channel, background first; None where the figure is.
        miou_all, miou_old, miou_new, hiou, pixel_accuracy: likewise.
        images: number of test images that truly hold a channel.
    """

    iou: tuple[Interval | None, ...]
    miou_all: Interval | None
    miou_old: Interval | None
    miou_new: Interval | None
    hiou: Interval | None
    pixel_accuracy: Interval | None
    images: tuple[int, ...]


@dataclass(frozen=True)
class LossIntervals:
    """Intervals of what a model's known classes lost against the model before, in points.

    Attributes:
        by_channel: of the channels that the model before knew.
        mean: of their mean.
    """

    by_channel: tuple[Interval | None, ...]
    mean: Interval | None


def intervals(
    by_image: ArrayLike, counts: Sequence[int], absent_classes_count: bool
) -> ScoreIntervals:
    """The intervals of a model's scores.

    Args:
        by_image: ``N x 3 x (1 + K)``: each test image's pixels of a channel that are right, true,
            predicted.
        counts: number of classes by step, K in all.
        absent_classes_count: as for :func:`dkd.evaluation.scores.scores`.

    Raises:
        ValueError: the table has not ``1 + K`` channels.
    """
    table = _table(by_image, 1 + sum(counts))
    held = _held(table)
    drawn = _drawn(table)
    iou = _iou(drawn, absent_classes_count)
    first = 1 + counts[0]
    old, new = _mean(iou[:, :first]), _mean(iou[:, first:])
    with np.errstate(invalid="ignore", divide="ignore"):
        hiou = np.where(old + new > 0, 2 * old * new / (old + new), old + new)
        accuracy = 100 * drawn[:, 0].sum(1) / drawn[:, 1].sum(1)
    whole = len(table)
    return ScoreIntervals(
        iou=tuple(_percent(column, n) for column, n in zip(iou.T, held, strict=True)),
        miou_all=_percent(_mean(iou), whole),
        miou_old=_percent(old, whole),
        miou_new=_percent(new, whole),
        hiou=_percent(hiou, whole),
        pixel_accuracy=_percent(accuracy, whole),
        images=held,
    )


def losses(
    before: ArrayLike, after: ArrayLike, among: Sequence[int], absent_classes_count: bool
) -> LossIntervals:
    """The intervals of what was lost: both models are scored on the same drawn images.

    Args:
        before: of the model before, ``M x 3 x (1 + J)`` as for :func:`intervals`.
        after: of the model that is judged, ``N x 3 x (1 + K)``, on these images and others.
        among: place of each of the M images among the N.
        absent_classes_count: as for :func:`intervals`.
    """
    later = _table(after)
    known = np.shape(before)[2]
    earlier = np.zeros((len(later), 3, known))
    earlier[list(among)] = _table(before, known)
    drawn = _drawn(np.concatenate([earlier, later[:, :, :known]], axis=2))
    was = _iou(drawn[:, :, :known], absent_classes_count)
    lost = was - _iou(drawn[:, :, known:], absent_classes_count)
    held = _held(later[:, :, :known])
    return LossIntervals(
        tuple(_points(column, n) for column, n in zip(lost.T, held, strict=True)),
        _points(_mean(lost), len(later)),
    )


def _table(by_image: ArrayLike, channels: int | None = None) -> Array:
    table = np.asarray(by_image, np.float64)
    if table.ndim != 3 or table.shape[1] != 3 or channels not in (None, table.shape[2]):
        raise ValueError(f"a table of shape {table.shape} for {channels} channels")
    return table


def _held(table: Array) -> tuple[int, ...]:
    return tuple((table[:, 1] > 0).sum(0).tolist())


def _drawn(table: Array) -> Array:
    """Pixels over each draw's images, ``DRAWS x 3 x channels``; exact, for they are below 2^53."""
    images = len(table)
    flat = table.reshape(images, -1)
    rng = np.random.default_rng(_SEED)
    sums, most = [], max(1, _AT_ONCE // max(images, 1))
    for first in range(0, DRAWS, most):
        draws = min(most, DRAWS - first)
        chosen = rng.integers(0, images, (draws, images)) + images * np.arange(draws)[:, None]
        times = np.bincount(chosen.ravel(), minlength=draws * images).reshape(draws, images)
        sums.append(times.astype(np.float64) @ flat)
    return np.concatenate(sums).reshape(DRAWS, *table.shape[1:])


def _iou(drawn: Array, absent_classes_count: bool) -> Array:
    """In percent, NaN where a channel is absent from a draw and does not count."""
    right, true, predicted = drawn[:, 0], drawn[:, 1], drawn[:, 2]
    union = true + predicted - right
    absent = 0.0 if absent_classes_count else np.nan
    return np.where(union > 0, 100 * right / np.maximum(union, 1), absent)


def _mean(values: Array) -> Array:
    """Over the known ones of each row; NaN where there is none."""
    known = ~np.isnan(values)
    total = np.where(known, values, 0.0).sum(1)
    with np.errstate(invalid="ignore"):
        return np.where(known.any(1), total / known.sum(1), np.nan)


def _percent(values: Array, images: int) -> Interval | None:
    return _ends(values, images, (0.0, 100.0))


def _points(values: Array, images: int) -> Interval | None:
    return _ends(values, images, (-100.0, 100.0))


def _ends(values: Array, images: int, anything: Interval) -> Interval | None:
    known = values[~np.isnan(values)]
    if not len(known):
        return None
    if images < 2:
        return anything
    low, high = np.quantile(known, [tail(images), 1 - tail(images)]).tolist()
    return (round(low, 6), round(high, 6))


def tail(images: int) -> float:
    """Share of the draws that lie beyond each end of the interval: less than 2.5 %, the fewer
    images the less.

    Args:
        images: their number, 2 or more.
    """
    stretched = math.sqrt(images / (images - 1)) * _student(images - 1)
    return NormalDist().cdf(-stretched)


def _student(freedom: int) -> float:
    """The quantile of Student's t by its expansion about the normal one (Abramowitz and Stegun,
    26.7.5); within 0.3 % from 4 degrees of freedom on.
    """
    z = NormalDist().inv_cdf((1 + CONFIDENCE) / 2)
    terms = (
        z,
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
    )
    return math.fsum(term / freedom**power for power, term in enumerate(terms))
