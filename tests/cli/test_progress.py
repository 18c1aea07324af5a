"""Bars on a terminal, lines elsewhere."""

import contextlib
import io
import re
import time
from collections.abc import Callable
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


def test_the_bar_follows_the_lines_of_several_runs() -> None:
    screen = io.StringIO()
    with Progress(console=Console(file=screen, force_terminal=True)) as bar:
        out = progress._Training(bar, steps=4)
        (task,) = bar.tasks

        def after(line: str) -> tuple[str, float, float | None]:
            with contextlib.redirect_stdout(out):
                print(line)
            return task.description, task.completed, task.total

        assert after("\n=== run 1/2: demo-dkd")[1:] == (0, 4)
        assert after("step 0 train: found, made by run x at noon, uri") == (
            "run 1/2: demo-dkd", 0, 3,
        )  # fmt: skip
        assert after("step 1 (cat): 12 images, 4 epochs, 8 iterations on 2 ranks (cpu)") == (
            "run 1/2: demo-dkd step 1", 0, 3,
        )  # fmt: skip
        half = after("  epoch 2/4: total 0.5; rate 1.00e-03; 4 s, 4 s left")
        assert half == ("run 1/2: demo-dkd step 1 epoch 2/4", 0.5, 3)
        assert after("any other line") == half
        assert after("step 1 train: 8.1 s, uri")[1:] == (1, 3)
        assert after("step 1 evaluate: 1.0 s, uri")[1:] == (1, 3)
        assert after("=== run 2/2: demo-joint") == ("run 2/2: demo-joint", 1, 3)
    for line in ("=== run 1/2: demo-dkd", "any other line", "step 1 evaluate: 1.0 s, uri"):
        assert line in screen.getvalue()
