"""``dkd status`` against a stand-in for the API server."""

from collections.abc import Callable

from click.testing import Result
from fake_kfp import VOC, FakeKfp, refused

Command = Callable[..., Result]


def test_runs_and_their_tasks_are_shown(dkd: Command, kfp: FakeKfp) -> None:
    dkd("submit", *VOC, "--run-name", "mine")
    identity = kfp.runs[0]["run_id"]
    assert f"{identity[:8]}  pending    2026-11-24 10:00  mine" in dkd("status").stdout
    shown = dkd("status", identity[:6])
    assert "running    Step 0: 15 classes" in shown.stdout, shown.output
    assert "10:00:00" in shown.stdout


def test_a_run_that_was_told_to_end_is_not_one_that_broke(dkd: Command, kfp: FakeKfp) -> None:
    dkd("submit", *VOC, "--run-name", "other")
    dkd("cancel", "other")
    assert f"{kfp.runs[0]['run_id'][:8]}  canceled   " in dkd("status").stdout
    kfp.fails = True
    kfp.asked[kfp.runs[0]["run_id"]] = 2
    assert "run other was terminated (http" in refused(dkd, "status", "other", "--watch")
    kfp.runs[0]["state_history"] += [{"state": "FAILED"}, {"state": "RUNNING"}, {"state": "FAILED"}]
    assert "it is broken" in refused(dkd, "status", "other", "--watch")
