"""Judging a step by its scenario's gate."""

from collections.abc import Sequence

from dkd.report.changes import gained_and_forgotten
from dkd.report.model import GateCheck, Scores
from dkd.scenario.schema import Gate


def judge(
    gate: Gate, before: Scores | None, after: Scores, classes: Sequence[str], new: Sequence[str]
) -> tuple[GateCheck, ...]:
    """What the gate asks of a step, and whether it was reached.

    Args:
        gate: the scenario's.
        before: scores of the step's teacher on the same data set; None at step 0, or where it was
            not scored: nothing can be said of losses then.
        after: of the step's model.
        classes: names in channel order, background excluded, at least as many as ``after`` has.
        new: names of the classes that the step added, the last of its channels.

    Returns:
        The checks in the order of the gate's fields, the worst class first.
    """
    checks = list[GateCheck]()
    if gate.miou_all_at_least is not None:
        checks.append(_at_least("mIoU of all classes", after.miou_all, gate.miou_all_at_least))
    if before is not None:
        changes = gained_and_forgotten(before, after, classes)
        if (limit := gate.old_classes_may_lose_at_most) is not None:
            mean = changes.mean_difference
            checks.append(_at_most("old classes lost on average", mean, limit))
        if (limit := gate.any_class_may_lose_at_most) is not None:
            checks += [_at_most(f"{c.name} lost", c.difference, limit) for c in changes.kept]
    if (limit := gate.new_classes_at_least) is not None:
        first = len(after.iou) - len(new)
        reached = list(zip(new, after.iou[first:], strict=True))
        reached.sort(key=lambda pair: float("inf") if pair[1] is None else pair[1])
        checks += [_at_least(name, iou, limit) for name, iou in reached]
    return tuple(checks)


def failed(checks: Sequence[GateCheck]) -> tuple[GateCheck, ...]:
    """Those that were not reached. What could not be measured has not failed."""
    return tuple(check for check in checks if check.passed is False)


def verdict(checks: Sequence[GateCheck], most: int = 5) -> str:
    """``Gate: passed``, or ``Gate: failed, sheep 12.3 < 20``; empty where nothing is asked."""
    if not checks:
        return ""
    if lost := failed(checks):
        more = f" and {len(lost) - most} more" if len(lost) > most else ""
        return f"Gate: failed, {', '.join(map(str, lost[:most]))}{more}"
    unknown = sum(check.passed is None for check in checks)
    return "Gate: passed" + (f", {unknown} not measured" if unknown else "")


def _at_least(what: str, figure: float | None, limit: float) -> GateCheck:
    passed = None if figure is None else figure >= limit
    return GateCheck(what=what, figure=figure, limit=limit, at_least=True, passed=passed)


def _at_most(what: str, difference: float | None, limit: float) -> GateCheck:
    lost = None if difference is None else -difference
    passed = None if lost is None else lost <= limit
    return GateCheck(what=what, figure=lost, limit=limit, at_least=False, passed=passed)
