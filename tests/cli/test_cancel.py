"""``dkd cancel`` against a stand-in for the API server."""

from collections.abc import Callable

from click.testing import Result
from fake_kfp import VOC, FakeKfp, refused

Command = Callable[..., Result]


def test_a_run_is_told_to_end(dkd: Command, kfp: FakeKfp) -> None:
    dkd("submit", *VOC, "--run-name", "mine")
    assert "asked to stop" in dkd("cancel", "mine").stdout
    assert kfp.runs[0]["state"] == "FAILED"


def test_a_run_that_has_ended_is_said_to_have(dkd: Command, kfp: FakeKfp) -> None:
    dkd("submit", *VOC, "--run-name", "mine", "--watch")
    assert "has ended: succeeded" in dkd("cancel", "mine").stdout


def test_a_run_that_never_was(dkd: Command, kfp: FakeKfp) -> None:
    assert "no run 'nothing'" in refused(dkd, "cancel", "nothing")
