"""Runs side by side: grouped by variant, with mean and deviation over seeds."""

import math
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

from dkd.errors import UserError
from dkd.report.model import RunResult, Scores, StepResult


@dataclass(frozen=True)
class Statistic:
    """Mean and sample standard deviation of ``count`` seeds; deviation is None for one seed."""

    mean: float
    deviation: float | None
    count: int

    @classmethod
    def of(cls, values: Iterable[float | None]) -> "Statistic | None":
        """Of the values that are there; None if none is."""
        known = [value for value in values if value is not None]
        if not known:
            return None
        deviation = statistics.stdev(known) if len(known) > 1 else None
        return cls(math.fsum(known) / len(known), deviation, len(known))

    def __str__(self) -> str:
        spread = "" if self.deviation is None else f" ± {self.deviation:.1f}"
        return f"{self.mean:.1f}{spread}"


@dataclass(frozen=True)
class Measure:
    """One column of the result: how it is written and where it stands."""

    key: str
    text: str
    name: str
    of: Callable[[Scores], float | None]


OLD = Measure("old", "mIoU_old", "old classes", lambda s: s.miou_old)
NEW = Measure("new", "mIoU_new", "new classes", lambda s: s.miou_new)
ALL = Measure("all", "mIoU_all", "all classes", lambda s: s.miou_all)
HARMONIC = Measure("h", "hIoU", "harmonic mean of old and new", lambda s: s.hiou)
MEASURES = (OLD, NEW, ALL, HARMONIC)


@dataclass(frozen=True)
class Variant:
    """The runs of one variant, in order of their seeds."""

    label: str
    runs: tuple[RunResult, ...]

    @property
    def first(self) -> RunResult:
        """The run whose pictures, matrices and curves stand for the variant."""
        return self.runs[0]

    @property
    def is_joint(self) -> bool:
        return self.first.is_joint

    @cached_property
    def steps(self) -> tuple[int, ...]:
        """Steps that any run has."""
        return tuple(sorted({step.step for run in self.runs for step in run.steps}))

    def at(self, step: int) -> tuple[StepResult, ...]:
        """The runs' results of a step."""
        return tuple(found for run in self.runs for found in run.steps if found.step == step)

    def score(self, measure: Measure, step: int) -> Statistic | None:
        """A measure after a step."""
        return Statistic.of(measure.of(found.scores) for found in self.at(step))

    def final(self, measure: Measure) -> Statistic | None:
        """A measure after the last step."""
        return self.score(measure, self.steps[-1])

    def iou(self, channel: int, step: int) -> Statistic | None:
        """IoU of a channel after a step."""
        return Statistic.of(
            found.scores.iou[channel] if channel < len(found.scores.iou) else None
            for found in self.at(step)
        )


@dataclass(frozen=True)
class Comparison:
    """Variants of one task, in the order in which they were given."""

    variants: tuple[Variant, ...]

    @property
    def run(self) -> RunResult:
        """Any run: task, classes, colours and reference pictures are the same in all."""
        return self.variants[0].first

    @cached_property
    def steps(self) -> tuple[int, ...]:
        """Steps of the task that any variant has; the joint model's counts if there is no other."""
        incremental = [v for v in self.variants if not v.is_joint] or list(self.variants)
        return tuple(sorted({step for variant in incremental for step in variant.steps}))

    @cached_property
    def seeds(self) -> tuple[int, ...]:
        return tuple(sorted({run.seed for variant in self.variants for run in variant.runs}))

    def step_of(self, class_index: int) -> int:
        """The task's step that a class (counted from 0) belongs to."""
        for step, names in enumerate(self.run.task):
            class_index -= len(names)
            if class_index < 0:
                return step
        raise IndexError("no such class")

    @cached_property
    def best(self) -> Variant:
        """The variant with the highest final hIoU (mIoU_all if none has one), joint left out."""
        incremental = [v for v in self.variants if not v.is_joint] or list(self.variants)

        def rank(variant: Variant) -> tuple[float, float]:
            harmonic, overall = variant.final(HARMONIC), variant.final(ALL)
            return (harmonic.mean if harmonic else -1, overall.mean if overall else -1)

        return max(incremental, key=rank)


def compare(runs: Sequence[RunResult]) -> Comparison:
    """Groups runs by variant.

    Raises:
        UserError: there is no run, or two runs do not learn the same classes in the same steps.
    """
    if not runs:
        raise UserError("report: no run's result given; name at least one")
    first = runs[0]
    grouped: dict[str, list[RunResult]] = {}
    for run in runs:
        if run.task != first.task:
            raise UserError(
                f"report: variant {run.variant!r} has other classes or steps than "
                f"{first.variant!r}; compare runs of one task"
            )
        grouped.setdefault(run.variant, []).append(run)
    return Comparison(
        tuple(
            Variant(label, tuple(sorted(members, key=lambda run: run.seed)))
            for label, members in grouped.items()
        )
    )
