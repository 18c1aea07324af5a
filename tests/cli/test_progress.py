"""Bars on a terminal, lines elsewhere."""

import contextlib
import io
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import Result
from rich.console import Console
from rich.progress import Progress

from dkd.cli import progress

HIDE, SHOW = "\x1b[?25l", "\x1b[?25h"  # the cursor


def test_a_scan_shows_a_bar_and_gives_the_cursor_back(
    in_terminal: Callable[..., str], folder: Path
) -> None:
    words = ("data", "check", folder, "--format", "folder")
    shown = in_terminal(*words)
    assert "scanning" in shown
    assert "8/8 images" in re.sub(r"\x1b\[[0-9;]*m", "", shown)  # without colours
    assert shown.count(HIDE) == shown.count(SHOW) == 1
    mask = folder / "masks" / "validation" / "3.png"
    mask.write_bytes(mask.read_bytes()[:100])
    shown = in_terminal(*words, status=2)
    assert f"dkd: {mask}: " in shown
    assert shown.count(HIDE) == shown.count(SHOW)


def test_short_work_says_nothing_in_a_pipe(dkd: Callable[..., Result], folder: Path) -> None:
    assert dkd("data", "check", folder, "--format", "folder").stderr == ""


def test_long_work_is_told_every_ten_seconds(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = 0.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    show = progress.progress("scanning")
    for now in range(26):
        show(now, 25)
    told = [f"scanning {done} of 25 images" for done in (10, 20, 25)]
    assert capsys.readouterr().err.splitlines() == told


@pytest.fixture
def after(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., tuple[str, float, float]]]:
    """Where the bar of two runs stands after a line: description, done and all images."""
    screen = io.StringIO()
    with Progress(console=Console(file=screen, force_terminal=True)) as bar:
        out = progress._Training(bar, {"demo-dkd": {0: 4, 1: 2}, "demo-joint": {0: 5}})
        lines = []

        def told(line: str) -> tuple[str, float, float]:
            lines.append(line)
            with contextlib.redirect_stdout(out):
                print(line)
            (task,) = bar.tasks
            return task.description, task.completed, task.total or 0

        yield told
    for line in lines:
        assert line in screen.getvalue()


def test_the_bar_follows_the_lines_of_one_run_after_the_other(
    after: Callable[..., tuple[str, float, float]],
) -> None:
    after("=== run 1/2: demo-dkd")
    after("data set: digits, 100 train, 20 validation images, s3://dkd/datasets/1")
    after("step 0: cat, dog: 60 training images, 10 test images")
    assert after("step 1: cow: 30 training images, 20 test images") == (
        "working", 0, 4 * 60 + 2 * 30 + 5 * 60,
    )  # fmt: skip
    found = after("step 0 train: found, made by run x at noon, uri")
    assert found[1:] == (0, 2 * 30 + 5 * 30)  # what is there already costs nothing
    assert after("step 1 (cow): 32 images, 2 epochs, 8 iterations on 2 ranks (cpu)")[0] == (
        "demo-dkd step 1 epoch 1/2"
    )
    half = after("  epoch 1/2: total 0.5; rate 1.00e-03; 4 s, 4 s left")
    assert half == ("demo-dkd step 1 epoch 2/2", 32, 2 * 32 + 5 * 32)
    assert after("any other line") == half
    assert after("step 1 train: 8.1 s, uri")[:2] == ("working", 64)
    assert after("step 1 evaluate: 1.0 s, uri")[:2] == ("working", 64)
    after("=== run 2/2: demo-joint")
    after("data set: digits, 100 train, 20 validation images, s3://dkd/datasets/1")
    assert after("step 0: cat, dog: 60 training images, 10 test images")[2] == 64 + 5 * 100


def test_the_bar_follows_the_lines_of_runs_side_by_side(
    after: Callable[..., tuple[str, float, float]],
) -> None:
    after("demo-joint | step 0 (cat, dog, cow): 100 images, 5 epochs, 65 iterations on 1 ranks")
    after("demo-dkd | step 0 (cat, dog): 60 images, 4 epochs, 30 iterations on 1 ranks (cpu)")
    after("demo-joint |   epoch 2/5: total 0.5; rate 1.00e-03; 4 s, 4 s left")
    assert after("demo-dkd |   epoch 3/4: total 0.5; rate 1.00e-03; 4 s, 4 s left") == (
        "demo-dkd step 0 epoch 4/4, demo-joint step 0 epoch 3/5",
        3 * 60 + 2 * 100,
        4 * 60 + 2 * 100 + 5 * 100,
    )


def test_what_is_left_follows_from_what_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    screen = Console(file=io.StringIO(), force_terminal=True)
    with Progress(console=screen, get_time=lambda: now, auto_refresh=False) as bar:
        out = progress._Training(bar, {"demo": {0: 4}})
        with contextlib.redirect_stdout(out):
            print("step 0 (cat): 60 images, 4 epochs, 30 iterations on 1 ranks (cpu)")
            now += 30
            print("  epoch 1/4: total 0.5")
            assert bar.tasks[0].fields["left"] == "about 0:01:30 left"
            print("step 0 train: 8.1 s, uri")
            assert bar.tasks[0].fields["left"] == ""
