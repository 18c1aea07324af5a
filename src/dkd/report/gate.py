"""Judging a step by its scenario's gate.

A limit counts as reached, or as missed, where the whole confidence interval of the figure says so.
Where the limit lies inside, the test images are too few to tell: that check is *open*. So no step
passes or fails by luck. Where there is no interval (an evaluation made before there were any), the
figure alone decides.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from dkd.report.changes import gained_and_forgotten
from dkd.report.model import GateCheck, Interval, Scores
from dkd.scenario.gate import Gate
from dkd.scenario.names import BACKGROUND_NAME

if TYPE_CHECKING:
    from dkd.evaluation.intervals import LossIntervals

GateState = Literal["passed", "failed", "open", "nothing asked"]


def judge(
    gate: Gate,
    before: Scores | None,
    after: Scores,
    classes: Sequence[str],
    new: Sequence[str],
    lost: "LossIntervals | None" = None,
) -> tuple[GateCheck, ...]:
    """What the gate asks of a step, and whether it was reached.

    Args:
        gate: the scenario's.
        before: scores of the step's teacher on the same data set; None at step 0, or where it was
            not scored: nothing can be said of losses then.
        after: of the step's model.
        classes: names in channel order, background excluded, at least as many as ``after`` has.
        new: names of the classes that the step added, the last of its channels.
        lost: intervals of the losses, if they are known.

    Returns:
        The checks in the order of the gate's fields, the worst class first.
    """
    checks = list[GateCheck]()
    within = after.intervals
    if (least := gate.miou_all_at_least) is not None:
        interval = within.miou_all if within else None
        checks.append(_check("mIoU of all classes", after.miou_all, least, interval))
    if before is not None:
        changes = gained_and_forgotten(before, after, classes)
        if (limit := gate.old_classes_may_lose_at_most) is not None:
            interval = lost.mean if lost else None
            checks.append(
                _loss("old classes lost on average", changes.mean_difference, limit, interval)
            )
        if (limit := gate.any_class_may_lose_at_most) is not None:
            ends = lost.by_channel if lost else ()
            by_name = dict(zip((BACKGROUND_NAME, *classes), ends, strict=False))
            checks += [
                _loss(f"{c.name} lost", c.difference, limit, by_name.get(c.name))
                for c in changes.kept
            ]
    if (limit := gate.new_classes_at_least) is not None:
        first = len(after.iou) - len(new)
        intervals = within.iou[first:] if within else (None,) * len(new)
        reached = list(zip(new, after.iou[first:], intervals, strict=True))
        reached.sort(key=lambda each: float("inf") if each[1] is None else each[1])
        checks += [_check(name, iou, limit, interval) for name, iou, interval in reached]
    return tuple(checks)


def failed(checks: Sequence[GateCheck]) -> tuple[GateCheck, ...]:
    """Those that were not reached. What could not be measured has not failed."""
    return tuple(check for check in checks if check.passed is False)


def state(checks: Sequence[GateCheck]) -> GateState:
    """What the checks come to; open too where something was asked and nothing could be measured."""
    if not checks:
        return "nothing asked"
    if failed(checks):
        return "failed"
    unmeasured = all(check.figure is None for check in checks)
    return "open" if unmeasured or any(check.open for check in checks) else "passed"


def verdict(checks: Sequence[GateCheck], most: int = 5) -> str:
    """``Gate: passed``, ``Gate: failed, sheep 12.3 < 20`` or ``Gate: open, sheep 21.0 (8.2 to 33.1)
    around 20``; empty where nothing is asked.
    """
    found = state(checks)
    if found == "nothing asked":
        return ""
    told = failed(checks) or tuple(check for check in checks if check.open)
    more = f"{len(told) - most} more" if len(told) > most else ""
    parts = ", ".join(map(str, told[:most])) + (f" and {more}" if more else "")
    unknown = sum(check.figure is None for check in checks) if found != "failed" else 0
    named = [parts] if parts else []
    return ", ".join([f"Gate: {found}", *named, *([f"{unknown} not measured"] if unknown else [])])


def _loss(
    what: str, difference: float | None, limit: float, interval: Interval | None
) -> GateCheck:
    lost = None if difference is None else -difference
    return _check(what, lost, limit, interval, at_least=False)


def _check(
    what: str,
    figure: float | None,
    limit: float,
    interval: Interval | None,
    *,
    at_least: bool = True,
) -> GateCheck:
    passed: bool | None = None
    if figure is not None:
        low, high = interval or (figure, figure)
        surely, never = (low >= limit, high < limit) if at_least else (high <= limit, low > limit)
        passed = True if surely else False if never else None
    return GateCheck(
        what=what, figure=figure, limit=limit, at_least=at_least, passed=passed, interval=interval
    )
