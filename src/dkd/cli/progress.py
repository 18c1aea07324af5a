"""How far a long command is: a bar where there is a terminal, lines elsewhere."""

import re
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from datetime import timedelta
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

# The lines of a run by which a bar goes on; where several go on at once, each with its name.
_RUN = re.compile(r"=== run \d+/\d+: (?P<run>.+)")
_OF_RUN = re.compile(r"(?P<run>\S+) \| (?P<line>.*)")
_DATA = re.compile(r"data set: .*?, (?P<images>\d+) train")
_STEP = re.compile(r"step (?P<step>\d+) \(.*\): (?P<images>\d+) images, ")
_WAITING = re.compile(r"step (?P<step>\d+): .*: (?P<images>\d+) training images")
_EPOCH = re.compile(r" *epoch (?P<epoch>\d+)/(?P<epochs>\d+): ")
_TRAINED = re.compile(r"step (?P<step>\d+) train: (?P<before>found|done)?")


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
def training_progress(runs: Mapping[str, Mapping[int, int]]) -> Iterator[None]:
    """Shows a bar below the lines that training prints inside the block, on a terminal.

    Args:
        runs: epochs by the number of each step that a run trains or finds, by the run's name; none
            where they are not known yet.
    """
    if not sys.stdout.isatty():
        yield
        return
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[left]}"),
    )
    with (
        Progress(*columns, console=Console(file=sys.stdout)) as bar,
        redirect_stdout(_Training(bar, runs)),
    ):
        yield


@dataclass
class _Step:
    """A step of a run: what it costs and how far it is.

    Attributes:
        epochs: of its training.
        images: of an epoch; 0 while nobody has told.
        done: epochs.
        found: it was trained before, or by another run.
    """

    epochs: int
    images: int = 0
    done: int = 0
    found: bool = False


@dataclass
class _Run:
    """A run: its steps, and the one that it is at."""

    steps: dict[int, _Step]
    at: int | None = None

    def __str__(self) -> str:
        """Where it is while it trains."""
        step = None if self.at is None else self.steps[self.at]
        if step is None or step.done == step.epochs:
            return ""
        return f"step {self.at} epoch {step.done + 1}/{step.epochs}"

    def step(self, number: int) -> _Step:
        return self.steps.setdefault(number, _Step(epochs=1))  # until its first epoch tells


class _Training(TextIOBase):
    """Standard output that stays above a bar, which follows from the lines that it is given.

    Training runs in other processes, whose lines are all that reaches this one. The bar counts
    images, over all epochs of all steps of all runs; so does what is left to do.
    """

    encoding = "utf-8"

    def __init__(self, bar: Progress, runs: Mapping[str, Mapping[int, int]]) -> None:
        self._bar = bar
        self._runs = {
            name: _Run({number: _Step(each) for number, each in epochs.items()})
            for name, epochs in runs.items()
        }
        self._task = bar.add_task("starting", total=None, left="")
        self._now, self._rest = next(iter(self._runs), ""), ""

    def isatty(self) -> bool:
        return True

    def write(self, text: str) -> int:
        *lines, self._rest = (self._rest + text).split("\n")
        for line in lines:
            self._bar.console.out(line, highlight=False)
            if match := _OF_RUN.match(line):
                self._follow(match["run"], match["line"])
            elif match := _RUN.match(line):
                self._now = match["run"]
            else:
                self._follow(self._now, line)
        return len(text)

    def _follow(self, name: str, line: str) -> None:
        run = self._runs.setdefault(name, _Run({}))
        if match := _DATA.match(line):  # what a joint step trains on, and more than any other
            for step in run.steps.values():
                step.images = step.images or int(match["images"])
        elif match := _WAITING.match(line):
            if len(run.steps) != 1:
                run.step(int(match["step"])).images = int(match["images"])
        elif match := _STEP.match(line):
            run.at = int(match["step"])
            run.step(run.at).images = int(match["images"])
        elif (match := _EPOCH.match(line)) and run.at is not None:
            step = run.step(run.at)
            step.done, step.epochs = int(match["epoch"]), int(match["epochs"])
        elif match := _TRAINED.match(line):
            run.at = int(match["step"])
            step = run.step(run.at)
            step.found = bool(match["before"]) and not step.done
            step.done = step.epochs
        else:
            return
        self._show()

    def _show(self) -> None:
        steps = [
            step for run in self._runs.values() for step in run.steps.values() if not step.found
        ]
        usual = max((step.images for step in steps), default=0) or 1
        total = sum(step.epochs * (step.images or usual) for step in steps)
        done = sum(step.done * (step.images or usual) for step in steps)
        elapsed = self._bar.tasks[0].elapsed or 0.0
        left = timedelta(seconds=round(elapsed * (total - done) / done)) if done else ""
        at_work = [f"{name} {each}" for name, each in self._runs.items() if str(each)]
        self._bar.update(
            self._task,
            total=total,
            completed=done,
            description=", ".join(at_work) or "working",
            left=f"about {left} left" if done < total and left else "",
            refresh=True,
        )
