"""The page's first half: what all variants have in common, side by side."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup

from dkd.data.channels import void_of
from dkd.report.charts import Point, Series, ceiling, score_chart, small_chart
from dkd.report.comparison import (
    ALL,
    HARMONIC,
    MEASURES,
    NEW,
    OLD,
    Comparison,
    Measure,
    Statistic,
    Variant,
)
from dkd.report.model import Interval
from dkd.report.pictures import coloured, label_map, photograph

GALLERY_IMAGES = 8
LARGE_SIDE, SMALL_SIDE = 256, 160
LARGE_PICTURES = 100
"""Predictions up to which they are embedded at the large side."""

PIXEL = Measure("pixel", "pixel accuracy", "pixels", lambda s: s.pixel_accuracy)


def looks(comparison: Comparison) -> tuple[int | None, ...]:
    """Number of every variant's colour and mark; None for the joint model, the bound."""
    result: list[int | None] = []
    for variant in comparison.variants:
        taken = sum(look is not None for look in result)
        result.append(None if variant.is_joint else taken)
    if all(look is None for look in result):
        return tuple(range(len(result)))
    return tuple(result)


@dataclass(frozen=True)
class Row:
    """A variant's line of the headline table.

    Attributes:
        variant: it.
        look: its colour and mark.
        scores: in the order of :data:`COLUMNS`.
        intervals: of the scores, where they are one seed's and known.
        best: whether the score is the best of all incremental variants.
        seconds: duration of all its steps, mean over seeds.
    """

    variant: Variant
    look: int | None
    scores: tuple[Statistic | None, ...]
    intervals: tuple[Interval | None, ...]
    best: tuple[bool, ...]
    seconds: float


COLUMNS = (*MEASURES, PIXEL)


def headline(comparison: Comparison) -> tuple[Row, ...]:
    """The scores of every variant after its last step."""
    finals = [[v.final(measure) for measure in COLUMNS] for v in comparison.variants]
    rivals = [i for i, v in enumerate(comparison.variants) if not v.is_joint]

    def is_best(row: int, column: int) -> bool:
        score = finals[row][column]
        others = [s.mean for i in rivals if (s := finals[i][column]) is not None]
        if score is None or row not in rivals or len(rivals) < 2:
            return False
        return round(score.mean, 1) == round(max(others), 1)

    return tuple(
        Row(
            variant,
            look,
            tuple(finals[i]),
            _intervals(variant),
            tuple(is_best(i, column) for column in range(len(COLUMNS))),
            sum(sum(step.seconds.values()) for run in variant.runs for step in run.steps)
            / len(variant.runs),
        )
        for i, (variant, look) in enumerate(
            zip(comparison.variants, looks(comparison), strict=True)
        )
    )


def _intervals(variant: Variant) -> tuple[Interval | None, ...]:
    last = variant.at(variant.steps[-1])
    within = last[0].scores.intervals if len(last) == 1 else None
    if within is None:
        return (None,) * len(COLUMNS)
    return (within.miou_old, within.miou_new, within.miou_all, within.hiou, within.pixel_accuracy)


def summary(comparison: Comparison) -> Markup:
    """The result in one or two sentences."""
    best = comparison.best
    overall, old, new = (best.final(measure) for measure in (ALL, OLD, NEW))
    if overall is None:
        return Markup(
            "Nothing was scored: no validation image of the data set shows a class of this task."
        )
    count = len(best.at(best.steps[-1])[0].scores.iou) - 1
    text = Markup(
        "After step {}, <b>{}</b> segments {} {} at a mean IoU of <b>{:.1f}</b> %"
    ).format(best.steps[-1], best.label, count, "class" if count == 1 else "classes", overall.mean)
    if old and new:
        text += Markup(": {:.1f} on the classes it began with, {:.1f} on those it learned later")
        text = text.format(old.mean, new.mean)
    text += Markup(". ")
    forgetful = next((v for v in comparison.variants if v.first.method == "finetune"), None)
    kept = forgetful.final(OLD) if forgetful and forgetful is not best else None
    if kept and forgetful and old:
        text += Markup("Training on the new images alone ({}) leaves {:.1f} of the old. ").format(
            forgetful.label, kept.mean
        )
    bound = next((v for v in comparison.variants if v.is_joint), None)
    reached = bound.final(ALL) if bound and bound is not best else None
    if bound and reached and reached.mean:
        text += Markup(
            "The upper bound, all classes at once ({}), is {:.1f}; {} reaches {:.0f} % of it."
        ).format(bound.label, reached.mean, best.label, 100 * overall.mean / reached.mean)
    return text


def _series(
    comparison: Comparison, scores: Sequence[Sequence[Statistic | None]]
) -> tuple[Series, ...]:
    """A line per variant from its scores, ``scores[i][j]`` being variant i's at its j-th step."""
    result = []
    for variant, look, values in zip(comparison.variants, looks(comparison), scores, strict=True):
        points = tuple(
            Point(
                step,
                score.mean,
                score.deviation or 0.0,
                f"{variant.label}, "
                f"{'all classes at once' if variant.is_joint else f'step {step}'}: {score}",
            )
            for step, score in zip(variant.steps, values, strict=True)
            if score is not None
        )
        result.append(Series(variant.label, look, points))
    return tuple(result)


@dataclass(frozen=True)
class Chart:
    """A drawing and the measure in it."""

    measure: Measure
    svg: Markup


def score_charts(comparison: Comparison) -> tuple[Chart, ...]:
    """A chart per measure, all on one scale; none if there is just one step."""
    if len(comparison.steps) < 2:
        return ()
    order = (ALL, OLD, NEW, HARMONIC)
    lines = {
        measure.key: _series(
            comparison,
            [[v.score(measure, step) for step in v.steps] for v in comparison.variants],
        )
        for measure in order
    }
    heights = [p.y + p.deviation for drawn in lines.values() for line in drawn for p in line.points]
    upper = ceiling(max(heights, default=100))
    return tuple(
        Chart(
            measure,
            score_chart(lines[measure.key], comparison.steps, upper, f"{measure.text} by step"),
        )
        for measure in order
        if any(line.points for line in lines[measure.key])
    )


@dataclass(frozen=True)
class ClassCurve:
    """A class's IoU over the steps, a line per variant."""

    channel: int
    svg: Markup


def class_curves(comparison: Comparison) -> tuple[ClassCurve, ...]:
    """A small chart per class, background first; none if there is just one step."""
    if len(comparison.steps) < 2:
        return ()
    result = []
    for channel, name in enumerate(comparison.run.channels):
        scores = [[v.iou(channel, step) for step in v.steps] for v in comparison.variants]
        drawn = small_chart(_series(comparison, scores), comparison.steps, f"IoU of {name}")
        result.append(ClassCurve(channel, drawn))
    return tuple(result)


@dataclass(frozen=True)
class Segmented:
    """A reference image: picture, truth, and per variant and step the prediction (or None)."""

    id: str
    image: str
    truth: str
    strips: tuple[tuple[str | None, ...], ...]


@dataclass(frozen=True)
class Gallery:
    """Reference images, and the channels that occur in them (for the legend)."""

    images: tuple[Segmented, ...]
    channels: tuple[int, ...]
    has_void: bool


def gallery(comparison: Comparison) -> Gallery:
    """The same images segmented by every variant after every step, as data URIs.

    The joint model's only picture stands under the last step.

    Raises:
        UserError: a picture cannot be read or has values that are no channels.
    """
    firsts = [variant.first for variant in comparison.variants]
    references = {r.id: r for run in reversed(firsts) for r in reversed(run.references)}
    shown = [references[key] for key in reversed(references)][:GALLERY_IMAGES]
    wanted = {reference.id for reference in shown}
    total = sum(p.id in wanted for run in firsts for s in run.steps for p in s.predictions)
    side = LARGE_SIDE if total <= LARGE_PICTURES else SMALL_SIDE
    colours = comparison.run.colours
    present: set[int] = set()
    with_void = False

    def map_uri(data: bytes, name: str) -> str:
        nonlocal with_void
        labels = label_map(data, name)
        values, void = set(np.unique(labels).tolist()), void_of(labels)
        present.update(values - {void})
        with_void |= void in values
        return coloured(labels, colours, side, name)

    images = []
    for reference in shown:
        strips = []
        for variant in comparison.variants:
            by_step = {
                (comparison.steps[-1] if variant.is_joint else step.step): map_uri(
                    prediction.labels, f"{reference.id} of {variant.label}"
                )
                for step in variant.first.steps
                for prediction in step.predictions
                if prediction.id == reference.id
            }
            strips.append(tuple(by_step.get(step) for step in comparison.steps))
        images.append(
            Segmented(
                reference.id,
                photograph(reference.image, side, reference.id),
                map_uri(reference.truth, reference.id),
                tuple(strips),
            )
        )
    return Gallery(tuple(images), tuple(sorted(present)), with_void)
