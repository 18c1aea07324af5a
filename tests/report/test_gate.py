"""What a gate asks of a step, and what it says."""

import pytest

from dkd.evaluation.intervals import LossIntervals
from dkd.report.gate import failed, judge, state, verdict
from dkd.report.model import Intervals, Scores
from dkd.scenario.gate import Gate

BEFORE = Scores(iou=(90.0, 60.0, 40.0), miou_all=63.3)
AFTER = Scores(iou=(89.0, 50.0, 44.0, 12.3, 61.0), miou_all=51.3)
CLASSES = ("cat", "dog", "sheep", "cow")


def judged(gate: Gate, before: Scores | None = BEFORE, after: Scores = AFTER) -> str:
    return verdict(judge(gate, before, after, CLASSES, ("sheep", "cow")))


@pytest.mark.parametrize(
    ("limits", "told"),
    [
        ({}, ""),
        ({"new_classes_at_least": 20}, "Gate: failed, sheep 12.3 < 20"),
        ({"new_classes_at_least": 12.3}, "Gate: passed"),
        ({"miou_all_at_least": 51.3}, "Gate: passed"),
        ({"miou_all_at_least": 52}, "Gate: failed, mIoU of all classes 51.3 < 52"),
        # (-1 - 10 + 4) / 3 = -7/3
        ({"old_classes_may_lose_at_most": 2.4}, "Gate: passed"),
        (
            {"old_classes_may_lose_at_most": 2.3},
            "Gate: failed, old classes lost on average 2.3 > 2.3",
        ),
        ({"any_class_may_lose_at_most": 10}, "Gate: passed"),
        (
            {"any_class_may_lose_at_most": 0.5},
            "Gate: failed, cat lost 10.0 > 0.5, background lost 1.0 > 0.5",
        ),
    ],
)
def test_each_limit(limits: dict[str, float], told: str) -> None:
    assert judged(Gate(**limits)) == told


def test_losses_are_not_judged_without_a_step_before() -> None:
    strict = Gate(old_classes_may_lose_at_most=0, any_class_may_lose_at_most=0)
    assert judge(strict, None, AFTER, CLASSES, CLASSES) == ()


def test_what_cannot_be_measured_has_not_failed_but_is_told() -> None:
    after = Scores(iou=(89.0, None, 44.0, None, 61.0), miou_all=None)
    gate = Gate(miou_all_at_least=50, new_classes_at_least=50, any_class_may_lose_at_most=5)
    checks = judge(gate, BEFORE, after, CLASSES, ("sheep", "cow"))
    assert failed(checks) == ()
    assert verdict(checks) == "Gate: passed, 3 not measured"


def test_many_failures_are_counted() -> None:
    names = tuple(f"class {n}" for n in range(9))
    after = Scores(iou=(50.0,) + (1.0,) * 9)
    told = verdict(judge(Gate(new_classes_at_least=2), None, after, names, names))
    assert told.count("< 2") == 5
    assert told.endswith(" and 4 more")


SURE = Intervals(
    iou=((88.0, 90.0), (45.0, 55.0), None, (8.0, 15.1), (57.0, 66.0)),
    miou_all=(49.0, 53.5),
    images=(40, 12, 0, 9, 11),
)


@pytest.mark.parametrize(
    ("limits", "told"),
    [
        ({"new_classes_at_least": 20}, "Gate: failed, sheep 12.3 (8.0 to 15.1) < 20"),
        ({"new_classes_at_least": 8}, "Gate: passed"),
        ({"new_classes_at_least": 15}, "Gate: open, sheep 12.3 (8.0 to 15.1) around 15"),
        (
            {"new_classes_at_least": 60},
            "Gate: failed, sheep 12.3 (8.0 to 15.1) < 60",
        ),
        (
            {"miou_all_at_least": 49, "old_classes_may_lose_at_most": 2.5},
            "Gate: open, old classes lost on average 2.3 (1.0 to 4.0) around 2.5",
        ),
        ({"old_classes_may_lose_at_most": 4}, "Gate: passed"),
        (
            {"any_class_may_lose_at_most": 0.5},
            "Gate: failed, cat lost 10.0 (6.0 to 13.0) > 0.5",
        ),
        (
            {"any_class_may_lose_at_most": 7},
            "Gate: open, cat lost 10.0 (6.0 to 13.0) around 7",
        ),
    ],
)
def test_the_whole_interval_must_reach_or_miss_a_limit(limits: dict[str, float], told: str) -> None:
    after = AFTER.model_copy(update={"intervals": SURE})
    lost = LossIntervals(((-1.0, 3.0), (6.0, 13.0), (-8.0, -1.0)), (1.0, 4.0))
    checks = judge(Gate(**limits), BEFORE, after, CLASSES, ("sheep", "cow"), lost)
    assert verdict(checks) == told
    assert state(checks) == told.split()[1].rstrip(",")


def test_a_gate_that_could_measure_nothing_has_not_passed() -> None:
    after = Scores(iou=(89.0, None), miou_all=None)
    checks = judge(Gate(miou_all_at_least=50), None, after, ("cat",), ("cat",))
    assert state(checks) == "open"
    assert verdict(checks) == "Gate: open, 1 not measured"
    assert state(()) == "nothing asked"
