"""A run in a process of its own: what goes in, what comes out."""

import io
import json
import subprocess
import sys
from pathlib import Path

import pytest

from dkd.kubeflow.local_pipeline import ComponentLines, Planned
from dkd.scenario import catalogue

SCENARIO = catalogue.scenario("demo", {"variants": {}})


def test_a_failure_is_the_components_own_line_and_the_next_order_is_obeyed(tmp_path: Path) -> None:
    """Components find what was set for the order, here their cache."""
    lacking = {"data.format": "folder", "data.root": str(tmp_path / "nothing")}
    bad = Planned("bad", SCENARIO.override(lacking), {"model_name": "", "model_registry_url": ""})
    order = bad.order(str(tmp_path / "root"), tmp_path, {"DKD_CACHE": str(tmp_path / "cache")})
    done = subprocess.run(
        [sys.executable, "-P", "-m", "dkd.kubeflow.local_pipeline"],
        input=f"{order}\n{order}\n",
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0
    lines = done.stdout.splitlines()
    failures = [line for line in lines if line.startswith("dkd: ")]
    assert len(failures) == lines.count("=== ended") == 2
    assert f"{tmp_path}/nothing: no such folder" in failures[0]
    assert f"{tmp_path}/runs/bad/pipeline.log" in failures[0]


@pytest.mark.parametrize("way", ["text", "json"])
def test_what_a_component_says_last_is_told(way: str) -> None:
    """Its lines are told as they came, and KFP's not; an error is left to whoever ends the run."""

    def line(event: str) -> str:
        fields = {"time": "", "level": "info", "run": None, "step": 0, "rank": 0, "event": event}
        return f"    {json.dumps(fields) if way == 'json' else event}\n"

    console, kept = io.StringIO(), io.StringIO()
    lines = ComponentLines(console, kept)
    lines.write("10:00:00.000 - INFO - Task 'a' started\n10:00:00.001 - INFO - Streamed logs:\n")
    for event in ("epoch 1/2", "dkd: job x: failed; its last lines:", "    RuntimeError: x"):
        lines.write(line(event))
    assert console.getvalue() == line("epoch 1/2").removeprefix("    ")
    assert lines.last_error == "job x: failed; its last lines:\n    RuntimeError: x"
