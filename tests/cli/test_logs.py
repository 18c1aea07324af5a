"""``dkd logs`` against a stand-in for the API server."""

import json
import subprocess
import sys
from collections.abc import Callable

import pytest
from click.testing import Result
from fake_kfp import VOC, FakeKfp, refused

Command = Callable[..., Result]


def test_logs_through_the_ui(dkd: Command, kfp: FakeKfp) -> None:
    """It does not serve the API server's address of them, but one of its own."""
    kfp.is_ui = True
    dkd("submit", *VOC, "--run-name", "mine")
    assert dkd("logs", "mine", "--follow").stdout.count("made by a test") == 3


def test_what_each_task_printed(dkd: Command, kfp: FakeKfp) -> None:
    dkd("submit", *VOC, "--run-name", "mine")
    printed = dkd("logs", "mine", "--follow")
    assert printed.stdout.count("made by a test") == 3
    assert printed.stdout.endswith("=== Report\nmade by a test\n  epoch 1/2\n")
    assert dkd("logs", "mine", "--task", "report").stdout.count("===") == 1
    assert "no task 'nothing'" in refused(dkd, "logs", "mine", "--task", "nothing")


def test_events_are_told_as_lines_unless_events_are_wanted(
    dkd: Command, kfp: FakeKfp, monkeypatch: pytest.MonkeyPatch
) -> None:
    fields = {"time": "", "level": "info", "run": "r", "step": 0, "rank": None}
    event = json.dumps({**fields, "event": "step 0 train: done"})
    kfp.fails, kfp.last = True, event + "\n"
    dkd("submit", *VOC, "--run-name", "mine")
    told = dkd("logs", "mine", "--follow").stdout
    assert told.endswith("\n  epoch 1/2\nstep 0 train: done\n")
    monkeypatch.setenv("DKD_LOG", "json")
    told = subprocess.run(
        [sys.executable, "-m", "dkd", "logs", "mine"], capture_output=True, text=True, check=True
    ).stdout
    lines = [json.loads(line) for line in told.splitlines()]
    assert lines[-1] == {**fields, "event": "step 0 train: done"}
    assert "epoch 1/2" in [line["event"] for line in lines]
