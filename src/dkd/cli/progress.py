"""How far a long command is: a bar where there is a terminal, lines elsewhere."""

import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from io import TextIOBase

import click
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

_LINES_SECONDS = 10.0
"""Between two lines where there is no terminal."""

# The lines of a run by which a bar goes on.
_RUN = re.compile(r"=== run (?P<run>.+)")
_STEP = re.compile(r"step (?P<step>\d+) \(.*\): \d+ images, ")
_EPOCH = re.compile(r" *epoch (?P<epoch>\d+)/(?P<epochs>\d+): ")
_TRAINED = re.compile(r"step \d+ train: (?P<before>found|done)?")


def progress(what: str, quiet: bool = False) -> Callable[[int, int], None]:
    """Shows how many images are done, on standard error.

    Args:
        what: e.g. ``scanning``.
        quiet: say nothing; another process does.

    Returns:
        To be called with the number of images done and of all.
    """
    if quiet:
        return lambda _done, _of: None
    if not sys.stderr.isatty():
        return _lines(what)
    bar = Progress(
        TextColumn(what),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("images"),
        TimeRemainingColumn(),
        console=Console(stderr=True),
    )
    task = bar.add_task(what, total=None)
    click.get_current_context().call_on_close(bar.stop)  # gives the cursor back after an error

    def show(done: int, of: int) -> None:
        bar.start()
        bar.update(task, completed=done, total=of)
        if done == of:
            bar.stop()

    return show


def _lines(what: str) -> Callable[[int, int], None]:
    started = last = time.monotonic()

    def show(done: int, of: int) -> None:
        nonlocal last
        now = time.monotonic()
        if now - (started if done == of else last) >= _LINES_SECONDS:
            last = now
            click.echo(f"{what} {done} of {of} images", err=True)

    return show


@contextmanager
def training_progress(steps: int) -> Iterator[None]:
    """Shows a bar below the lines that training prints inside the block, on a terminal.

    Args:
        steps: of all runs together.
    """
    if not sys.stdout.isatty():
        yield
        return
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    # The estimate looks at the whole command: steps are few, and epochs come in bursts.
    bar = Progress(*columns, console=Console(file=sys.stdout), speed_estimate_period=24 * 3600)
    with bar, redirect_stdout(_Training(bar, steps)):
        yield


class _Training(TextIOBase):
    """Standard output that stays above a bar, which follows from the lines that it is given.

    Training runs in other processes, whose lines are all that reaches this one.
    """

    encoding = "utf-8"

    def __init__(self, bar: Progress, steps: int) -> None:
        self._bar, self._steps, self._trained = bar, steps, 0
        self._task = bar.add_task("starting", total=steps)
        self._run = self._step = self._rest = ""

    def isatty(self) -> bool:
        return True

    def write(self, text: str) -> int:
        *lines, self._rest = (self._rest + text).split("\n")
        for line in lines:
            self._bar.console.out(line, highlight=False)
            self._follow(line)
        return len(text)

    def _follow(self, line: str) -> None:
        part, epoch = 0.0, ""
        if match := _RUN.match(line):
            self._run, self._step = f"run {match['run']}", ""
        elif match := _STEP.match(line):
            self._step = f"step {match['step']}"
        elif match := _EPOCH.match(line):
            part = int(match["epoch"]) / int(match["epochs"])
            epoch = f"epoch {match['epoch']}/{match['epochs']}"
        elif match := _TRAINED.match(line):
            if match["before"]:  # it says nothing of how long the others take
                self._steps -= 1
            else:
                self._trained += 1
        else:
            return
        self._bar.update(
            self._task,
            total=self._steps,
            completed=self._trained + part,
            description=" ".join(filter(None, (self._run, self._step, epoch))),
        )
