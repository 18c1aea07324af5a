"""A run in a process of its own: what goes in, what comes out."""

import io
import subprocess
import sys
from pathlib import Path

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


def test_components_lines_are_passed_on_but_for_a_failure() -> None:
    console, log = io.StringIO(), io.StringIO()
    lines = ComponentLines(console, log)
    lines.write("10:00:00.000 - INFO - Streamed logs:\n    epoch 1/2\n    dkd: no such")
    lines.write(" file\n        and why\n")
    assert console.getvalue() == "epoch 1/2\n"
    assert lines.last_error == "no such file\n    and why"
    assert "Streamed logs" in log.getvalue()
