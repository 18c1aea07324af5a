"""Runs at once, each in a process: whose lines come, in which order they begin, how they fail."""

import sys
from collections.abc import Callable
from pathlib import Path
from textwrap import indent

import pytest

from dkd.errors import UserError
from dkd.kubeflow import local_processes
from dkd.kubeflow.local_pipeline import Planned
from dkd.kubeflow.local_processes import PipelineProcesses

STAND_IN = """
import contextlib, json, os, pathlib, sys, time
for line in sys.stdin:
    order = json.loads(line)
    run, root = order["name"], pathlib.Path(order["root"])
    (root / run).touch()
{body}
    print("=== ended", flush=True)
"""


def planned(name: str, steps: int) -> Planned:
    return Planned(name, None, {}, (1,) * steps)


@pytest.fixture
def together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """Runs a program in the place of each run's process; what is told."""

    def run(body: str, runs: list[Planned], count: int = 2) -> list[str]:
        program = tmp_path / "program.py"
        program.write_text(STAND_IN.format(body=indent(body, "    ")))
        assert local_processes.COMMAND[1:] == ("-P", "-m", "dkd.kubeflow.local_pipeline")
        monkeypatch.setattr(local_processes, "COMMAND", (sys.executable, str(program)))
        with PipelineProcesses(count) as processes:
            monkeypatch.setenv("DKD_TEST", "set later")
            processes.run(runs, str(tmp_path), tmp_path, told.append)
        return told

    told: list[str] = []
    run.told = told  # type: ignore[attr-defined]
    return run


def test_two_run_at_once_the_one_of_a_single_step_first(
    together: Callable[..., list[str]],
) -> None:
    meet = """
other = {"long": "joint", "joint": "long"}.get(run)
while other and not (root / other).exists():
    time.sleep(0.01)
print("met", other)
"""
    told = together(meet, [planned("long", 3), planned("later", 3), planned("joint", 1)])
    assert told[:2] == ["joint | begins", "long | begins"]
    assert set(told[2:]) == {
        "joint | met long",
        "long | met joint",
        "later | begins",
        "later | met None",
    }


def test_one_that_fails_is_told_when_the_others_have_ended(
    together: Callable[..., list[str]],
) -> None:
    body = """
if run == "good":
    while not (root / "failed").exists():
        time.sleep(0.01)
    print("good to the end")
else:
    print("a line")
    print("dkd: data.root: no such folder")
    print("    and why")
    sys.stdout.flush()
    (root / "failed").touch()
"""
    runs = [planned("good", 1), planned("bad", 1), planned("never", 1)]
    with pytest.raises(UserError) as raised:
        together(body, runs)
    assert str(raised.value) == "data.root: no such folder\n    and why"
    told = together.told  # type: ignore[attr-defined]
    assert "good | good to the end" in told
    assert "bad | a line" in told
    assert "never | begins" not in told


def test_one_that_dies_without_a_word(
    together: Callable[..., list[str]],
) -> None:
    with pytest.raises(UserError, match=r"^run one: ended with status -9$"):
        together("os.kill(os.getpid(), 9)", [planned("one", 1)])


def test_a_process_is_told_what_has_been_set_since_it_began(
    together: Callable[..., list[str]],
) -> None:
    told = together('print(order["environment"])', [planned("one", 1)])
    assert told[1] == "one | {'DKD_TEST': 'set later'}"


def test_a_single_process_runs_them_in_order_and_its_lines_stand_alone(
    together: Callable[..., list[str]],
) -> None:
    told = together('print("  at", run)', [planned("long", 3), planned("joint", 1)], count=1)
    assert told == ["\n=== run 1/2: long", "  at long", "\n=== run 2/2: joint", "  at joint"]


def test_what_one_that_dies_had_started_ends_before_the_others(
    together: Callable[..., list[str]], tmp_path: Path
) -> None:
    body = """
import psutil, subprocess
if run == "one":
    to = subprocess.DEVNULL
    child = subprocess.Popen(["sleep", "600"], stdout=to, stderr=to)
    (root / "part").write_text(str(child.pid))
    (root / "part").rename(root / "child")
    os.kill(os.getpid(), 9)
while not (root / "child").exists():
    time.sleep(0.01)
with contextlib.suppress(psutil.NoSuchProcess):
    child = psutil.Process(int((root / "child").read_text()))
    while child.status() != psutil.STATUS_ZOMBIE:
        time.sleep(0.01)
"""
    with pytest.raises(UserError, match=r"^run one: ended with status -9$"):
        together(body, [planned("one", 1), planned("two", 1)])
