"""The page's second half: one variant in detail."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from dkd.report.cards import Card, card
from dkd.report.changes import Changes, ClassChange, gained_and_forgotten
from dkd.report.charts import Point, Series, loss_chart
from dkd.report.comparison import Comparison, Variant
from dkd.report.matrices import MATRIX_MOST, Confusion, confusion_chart, top_confusions
from dkd.report.model import GateCheck, Interval, RunResult, StepResult
from dkd.report.pictures import THUMBNAIL_SIDE, photograph

GATE_PASSED = 8
"""Checks of a step's gate that passed up to which they are listed."""

EMBEDDED_THUMBNAILS = 180
"""Exemplars embedded in the whole page, shared out among its steps."""

LOSS_NAMES = {
    "total": "total",
    "mbce": "mBCE",
    "kd": "KD",
    "dkd_pos": "DKD+",
    "dkd_neg": "DKD−",
    "ac": "AC",
}
TIMED_STAGES = ("data", "train", "evaluate", "memory")


@dataclass(frozen=True)
class StepChanges:
    """What a step changed; its first step in a run is not compared with anything."""

    step: StepResult
    changes: Changes


@dataclass(frozen=True)
class Thumbnail:
    """An exemplar: its picture as a data URI, and what is in it."""

    id: str
    uri: str
    classes: tuple[str, ...]


@dataclass(frozen=True)
class MemoryPanel:
    """The exemplars chosen after a step, of which the first ones are shown.

    Attributes:
        step: after which they were chosen.
        total: their number.
        shown: the first of them.
        counts: channel and number of exemplars of every class that is in one.
    """

    step: int
    total: int
    shown: tuple[Thumbnail, ...]
    counts: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class LossChart:
    """Training curves of a step."""

    step: int
    svg: Markup


@dataclass(frozen=True)
class Judged:
    """What a gate asked of a step.

    Attributes:
        step: its number.
        shown: the checks that are listed: all that did not pass, and the first that did.
        others: number of those that passed too.
    """

    step: int
    shown: tuple[GateCheck, ...]
    others: int


@dataclass(frozen=True)
class Figure:
    """A class's IoU after the last scored step, in percent.

    Attributes:
        channel: the class's.
        iou: None where it is not scored.
        interval: of it; None where it is not known.
        images: test images that hold the class.
    """

    channel: int
    iou: float | None
    interval: Interval | None
    images: int


@dataclass(frozen=True)
class Panel:
    """A variant's details; pictures, matrix and curves are its first seed's.

    Attributes:
        variant: it.
        changes: by step.
        judged: by step, where a gate asked something.
        figures: every class of the last step that was scored, if its intervals are known.
        confused: the last step that has a confusion matrix.
        matrix: its drawing; None if there is none or too many classes.
        confusions: the largest of them.
        memories: exemplars by step.
        losses: training curves by step.
        terms: looks and names of the loss terms in the curves.
        card: of its last model; None where the result does not name that.
    """

    variant: Variant
    changes: tuple[StepChanges, ...]
    judged: tuple[Judged, ...]
    figures: tuple[Figure, ...]
    confused: StepResult | None
    matrix: Markup | None
    confusions: tuple[Confusion, ...]
    memories: tuple[MemoryPanel, ...]
    losses: tuple[LossChart, ...]
    terms: tuple[tuple[int, str], ...]
    card: Card | None


def _judged(step: StepResult) -> Judged:
    passed = [check for check in step.gate if check.passed]
    hidden = {id(check) for check in passed[GATE_PASSED:]}
    return Judged(step.step, tuple(c for c in step.gate if id(c) not in hidden), len(hidden))


def _figures(step: StepResult) -> tuple[Figure, ...]:
    within = step.scores.intervals
    if within is None:
        return ()
    figures = zip(step.scores.iou, within.iou, within.images, strict=True)
    return tuple(Figure(channel, *figure) for channel, figure in enumerate(figures))


def panels(comparison: Comparison) -> tuple[Panel, ...]:
    """The details of every variant.

    Raises:
        UserError: an exemplar's thumbnail cannot be read.
    """
    with_memory = sum(
        bool(step.exemplars) for variant in comparison.variants for step in variant.first.steps
    )
    most = min(max(EMBEDDED_THUMBNAILS // max(with_memory, 1), 6), 48)
    return tuple(_panel(variant, most) for variant in comparison.variants)


def _panel(variant: Variant, thumbnails: int) -> Panel:
    run = variant.first
    confused = next((step for step in reversed(run.steps) if step.confusion), None)
    matrix: Markup | None = None
    confusions: tuple[Confusion, ...] = ()
    if confused:
        drawn = len(confused.scores.iou) <= MATRIX_MOST
        if drawn:
            name = f"Confusion matrix of {variant.label} after step {confused.step}"
            matrix = confusion_chart(confused, run.channels, name)
        confusions = top_confusions(confused, run.channels, 10 if drawn else 30)
    looks = _term_looks(name for step in run.steps for name in step.curve.terms)
    return Panel(
        variant,
        tuple(_changes(run)),
        tuple(_judged(step) for step in run.steps if step.gate),
        _figures(confused) if confused else (),
        confused,
        matrix,
        confusions,
        tuple(_memory(step, run.classes, thumbnails) for step in run.steps if step.exemplars),
        tuple(
            LossChart(step.step, _loss_chart(step, looks, f"{variant.label}, step {step.step}"))
            for step in run.steps
            if step.curve.iterations
        ),
        tuple((look, LOSS_NAMES.get(name, name)) for name, look in looks.items()),
        card(run) if run.steps[-1].checkpoint else None,
    )


def _changes(run: RunResult) -> Iterator[StepChanges]:
    before: StepResult | None = None
    for step in run.steps:
        if before is None:
            first = len(step.scores.iou) - len(step.new_classes)
            gained = tuple(
                ClassChange(run.channels[channel], None, step.scores.iou[channel])
                for channel in range(max(first, 1), len(step.scores.iou))
            )
            yield StepChanges(step, Changes(gained, ()))
        else:
            changes = gained_and_forgotten(before.scores, step.scores, run.classes)
            yield StepChanges(step, changes)
        before = step


def _memory(step: StepResult, classes: Sequence[str], thumbnails: int) -> MemoryPanel:
    counts = [
        (channel, sum(name in exemplar.classes for exemplar in step.exemplars))
        for channel, name in enumerate(classes, start=1)
    ]
    return MemoryPanel(
        step.step,
        len(step.exemplars),
        tuple(
            Thumbnail(e.id, photograph(e.thumbnail, THUMBNAIL_SIDE, e.id), e.classes)
            for e in step.exemplars[:thumbnails]
        ),
        tuple((channel, count) for channel, count in counts if count),
    )


def _term_looks(names: Iterable[str]) -> dict[str, int]:
    """Number of every term's colour; the known terms have the same one on every page."""
    present = set(names)
    order = [*LOSS_NAMES, *sorted(present - set(LOSS_NAMES))]
    return {name: look for look, name in enumerate(order) if name in present}


def _loss_chart(step: StepResult, looks: Mapping[str, int], name: str) -> Markup:
    series = [
        Series(
            LOSS_NAMES.get(term, term),
            look,
            tuple(
                Point(iteration, value)
                for iteration, value in zip(
                    step.curve.iterations, step.curve.terms[term], strict=True
                )
                if value is not None
            ),
        )
        for term, look in looks.items()
        if term in step.curve.terms
    ]
    return loss_chart([line for line in series if line.points], f"Training losses of {name}")


def stages(seconds: Mapping[str, float]) -> list[tuple[str, float]]:
    """Durations by stage, in the order in which the stages run."""
    return sorted(
        seconds.items(),
        key=lambda item: (
            TIMED_STAGES.index(item[0]) if item[0] in TIMED_STAGES else len(TIMED_STAGES),
            item[0],
        ),
    )
