"""What a command's options plan to run."""

import io
import json

import pytest

from dkd.errors import UserError
from dkd.kubeflow import local_runner
from dkd.scenario import catalogue

DEMO = catalogue.scenario("demo", {})


def names(*variants: str, seeds: tuple[int, ...] = (), **grid: list[object]) -> list[str]:
    planned = local_runner.plan(DEMO, variants, False, seeds, None, grid)
    return [each.name for each in planned]


def test_variants_times_grid_times_seeds() -> None:
    assert names() == ["demo"]
    assert names("DKD", "DKD-M", seeds=(1, 2)) == [
        f"demo-{variant}-seed{seed}" for variant in ("dkd", "dkd-m") for seed in (1, 2)
    ]
    assert names("DKD-M", seeds=(3,), method=["dkd", "star"], memory_size=[5]) == [
        f"demo-dkd-m-{method}-memory-size-5-seed3" for method in ("dkd", "star")
    ]


def test_a_bad_combination_is_told_before_anything_runs() -> None:
    with pytest.raises(UserError, match="method: 'nothing' is none of dkd, star"):
        names(method=["dkd", "nothing"])


@pytest.mark.parametrize("way", ["text", "json"])
def test_what_a_component_says_last_is_told(way: str) -> None:
    """Its lines are told as they came, and KFP's not; an error is left to whoever ends the run."""

    def line(event: str) -> str:
        fields = {"time": "", "level": "info", "run": None, "step": 0, "rank": 0, "event": event}
        return f"    {json.dumps(fields) if way == 'json' else event}\n"

    console, kept = io.StringIO(), io.StringIO()
    lines = local_runner.ComponentLines(console, kept)
    lines.write("10:00:00.000 - INFO - Task 'a' started\n10:00:00.001 - INFO - Streamed logs:\n")
    for event in ("epoch 1/2", "dkd: job x: failed; its last lines:", "    RuntimeError: x"):
        lines.write(line(event))
    assert console.getvalue() == line("epoch 1/2").removeprefix("    ")
    assert lines.last_error == "job x: failed; its last lines:\n    RuntimeError: x"
