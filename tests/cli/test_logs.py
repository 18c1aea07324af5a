"""``dkd logs`` against a stand-in for the API server."""

from collections.abc import Callable

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
    assert printed.stdout.endswith("=== Step 1: + 5 classes\nmade by a test\n  epoch 1/2\n")
    assert dkd("logs", "mine", "--task", "prepare").stdout.count("===") == 1
    assert "no task 'nothing'" in refused(dkd, "logs", "mine", "--task", "nothing")
