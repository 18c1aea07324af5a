"""What a step gained and what it forgot."""

from collections.abc import Sequence
from dataclasses import dataclass

from dkd.report.model import Interval, Scores
from dkd.scenario.names import BACKGROUND_NAME

SENTENCE_NAMES = 6


@dataclass(frozen=True)
class ClassChange:
    """IoU of one class before and after a step, in percent; None where it is not scored."""

    name: str
    before: float | None
    after: float | None

    @property
    def difference(self) -> float | None:
        """After less before, in percentage points."""
        if self.before is None or self.after is None:
            return None
        return self.after - self.before


@dataclass(frozen=True)
class Changes:
    """How a step changed the classes.

    Attributes:
        gained: the classes that only the later model knows, in channel order.
        kept: the classes that both know and background, the one that lost most first.
    """

    gained: tuple[ClassChange, ...]
    kept: tuple[ClassChange, ...]

    @property
    def mean_difference(self) -> float | None:
        """Mean change of the classes that both models know, in points; None if there is none."""
        differences = [c.difference for c in self.kept if c.difference is not None]
        return sum(differences) / len(differences) if differences else None

    def forgotten(self, at_least: float = 0.05) -> tuple[ClassChange, ...]:
        """Classes that lost ``at_least`` so many points, the one that lost most first."""
        return tuple(c for c in self.kept if c.difference is not None and c.difference <= -at_least)

    def improved(self, at_least: float = 0.05) -> tuple[ClassChange, ...]:
        """Known classes that won ``at_least`` so many points, the one that won most first."""
        return tuple(
            c for c in reversed(self.kept) if c.difference is not None and c.difference >= at_least
        )

    def sentence(self, most: int = 3) -> str:
        """For example ``+ sheep 61.2; lost most: cow -4.1, horse -2.0; old classes -1.3``."""
        parts = []
        if self.gained:
            named = ", ".join(f"{c.name} {percent(c.after)}" for c in self.gained[:SENTENCE_NAMES])
            others = len(self.gained) - SENTENCE_NAMES
            parts.append(f"+ {named}" + (f" and {others} more" if others > 0 else ""))
        if lost := self.forgotten()[:most]:
            parts.append("lost most: " + ", ".join(f"{c.name} {_points(c)}" for c in lost))
        elif won := self.improved()[:most]:
            parts.append("improved: " + ", ".join(f"{c.name} {_points(c)}" for c in won))
        if self.mean_difference is not None:
            parts.append(f"known classes on average {points(self.mean_difference)}")
        return "; ".join(parts)


def gained_and_forgotten(before: Scores, after: Scores, classes: Sequence[str]) -> Changes:
    """Compares two models of which the later one knows the earlier one's classes and maybe more.

    Args:
        before: scores of the earlier model (the teacher).
        after: scores of the later model; its first channels are the earlier model's.
        classes: names in channel order, background excluded, at least as many as ``after`` has.

    Raises:
        ValueError: the later model has fewer channels, or a name is missing.
    """
    names = (BACKGROUND_NAME, *classes)
    known, now = len(before.iou), len(after.iou)
    if not known <= now <= len(names):
        raise ValueError(f"{known} channels before, {now} after, {len(names)} names")
    kept = [
        ClassChange(name, old, new)
        for name, old, new in zip(names[:known], before.iou, after.iou[:known], strict=True)
    ]
    # Stable, so that ties keep the task's order; what is not scored stands last.
    kept.sort(key=lambda c: float("inf") if c.difference is None else c.difference)
    gained = [
        ClassChange(name, None, new)
        for name, new in zip(names[known:now], after.iou[known:], strict=True)
    ]
    return Changes(tuple(gained), tuple(kept))


def percent(value: float | None) -> str:
    """``61.2``, or a dash where there is no value."""
    return "–" if value is None else f"{value:.1f}"


def points(value: float | None) -> str:
    """A difference with its sign, ``+1.0`` or ``-4.1``; ``±0.0`` if it rounds to nothing."""
    if value is None:
        return "–"
    return "±0.0" if abs(value) < 0.05 else f"{value:+.1f}"


def ends(interval: Interval | None) -> str:
    """``12.3 to 20.1``, or a dash where there is no interval."""
    return "–" if interval is None else "{:.1f} to {:.1f}".format(*interval).replace("-", "−")


def _points(change: ClassChange) -> str:
    return points(change.difference)
