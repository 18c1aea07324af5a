"""A run's tasks by their titles, from what has started of it."""

from dataclasses import replace
from typing import Any

from dkd.kubeflow.graph import Node, nodes
from dkd.kubeflow.internals import Started


def task(title: str, component: str) -> dict[str, Any]:
    return {"taskInfo": {"name": title}, "componentRef": {"name": component}}


SPEC = {
    "root": {"dag": {"tasks": {"prepare": task("Prepare", "a"), "step": task("Step 0", "b")}}},
    "components": {
        "a": {"executorLabel": "a"},
        "b": {"dag": {"tasks": {"train": task("Train", "c")}}},
        "c": {"executorLabel": "c"},
    },
}


def started(*place: str, at: str = "", state: str = "running", **more: Any) -> Started:
    given = {"driver": False, "ended": "", "pods": (), "namespace": "", "message": ""} | more
    return Started(place=place, state=state, started=at, **given)


def test_tasks_are_titled_after_their_steps_in_the_order_of_their_start() -> None:
    found = nodes(
        [
            started("step", "train", at="2026-01-01T10:00:02Z"),
            started("prepare", at="2026-01-01T10:00:01Z"),
            started("step", at="2026-01-01T10:00:00Z"),  # holds tasks, is none
            started("unknown"),
        ],
        SPEC,
    )
    assert [node.title for node in found] == ["Prepare", "Step 0 / Train"]


def test_a_task_known_by_name_alone_is_found_wherever_it_stands() -> None:
    (found,) = nodes([started("train")], SPEC)
    assert found.title == "Step 0 / Train"


def test_drivers_are_shown_only_in_trouble() -> None:
    found = nodes(
        [
            started("prepare", driver=True, state="succeeded"),
            started("step", driver=True, state="failed"),
            started(driver=True, state="pending", message="ImagePullBackOff: no such image"),
            started("prepare", driver=True, state="pending", message="PodInitializing"),
        ],
        SPEC,
    )
    assert sorted(node.title for node in found) == ["Start (driver)", "Step 0 (driver)"]


def test_a_line_says_why_only_of_what_does_not_go_well() -> None:
    def node(state: str) -> Node:
        whole = started("step", at="2026-01-01T10:00:00Z", state=state)
        ended = replace(whole, ended="2026-01-01T11:30:00Z", message="OOMKilled: memory")
        return Node(**vars(ended), title="Train")

    assert str(node("failed")) == "failed     Train: OOMKilled: memory"
    assert str(node("running")) == "running    Train"
    assert node("failed").times == "10:00:00 - 11:30:00"
