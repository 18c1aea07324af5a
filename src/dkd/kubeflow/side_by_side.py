"""Several runs at once, in processes of their own (:mod:`dkd.kubeflow.local_pipeline`)."""

import os
import selectors
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from dkd.errors import UserError
from dkd.kubeflow.local_pipeline import ENDED, FAILED, Planned
from dkd.kubeflow.local_processes import OWN_PROCESS
from dkd.log import is_event


class SideBySide:
    """Processes that run pipelines, each one after the other; a context manager.

    They are started at once, so that they import what they need while the store starts.

    Args:
        count: how many.
    """

    def __init__(self, count: int) -> None:
        self._environment = dict(os.environ)
        self._processes = [_Process() for _ in range(count)]

    def __enter__(self) -> "SideBySide":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        for process in self._processes:
            process.end(at_once=kind is not None)

    def run(
        self, runs: Sequence[Planned], root: str, workspace: Path, say: Callable[[str], None]
    ) -> None:
        """Runs pipelines; every line of theirs is told with the run's name before it, but for
        an event (:mod:`dkd.log`), which says it itself.

        Those with the fewest steps begin: a joint run's only step is the longest of all, and
        nothing else waits for it. A step that two of them share is trained by one, the other
        waits for it.

        Args:
            runs: all of them.
            root: artifact root.
            workspace: folder for their logs.
            say: prints a line.

        Raises:
            UserError: a run failed. Those that had begun have ended by then, no other has.
        """
        changed = {k: v for k, v in os.environ.items() if self._environment.get(k) != v}
        waiting = sorted(runs, key=lambda planned: len(planned.epochs))
        failures: list[str] = []
        with selectors.DefaultSelector() as reading:
            for process in self._processes:
                reading.register(process.output, selectors.EVENT_READ, process)
            while any(process.run for process in self._processes) or waiting:
                for process in self._processes:
                    if not process.run and waiting:
                        process.begin(waiting.pop(0), root, workspace, changed)
                        say(f"{process.run} | begins")
                for key, _events in reading.select():
                    process = key.data
                    name = process.run
                    for line in process.lines():
                        say(line if is_event(line) else f"{name} | {line}")
                    if process.failure:
                        failures.append(process.failure)
                        waiting, process.failure = [], ""
                    if process.has_ended:
                        reading.unregister(process.output)
        if failures:
            raise UserError("\n".join(failures))


class _Process:
    """A process, the run that it is at, and what it has printed that is not told yet."""

    def __init__(self) -> None:
        # Without this folder, whose own folders (docker/) would be taken for packages.
        self._child = subprocess.Popen(
            (sys.executable, "-P", "-m", OWN_PROCESS),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        assert self._child.stdin is not None
        assert self._child.stdout is not None
        self._orders, self.output = self._child.stdin, self._child.stdout
        self.run = self.failure = ""
        self.has_ended = False
        self._rest = b""
        self._told: list[str] = []

    def begin(
        self, planned: Planned, root: str, workspace: Path, environment: dict[str, str]
    ) -> None:
        """Has it run a pipeline, with these variables beside those that it began with."""
        self.run, self._told = planned.name, []
        order = planned.order(root, workspace, environment)
        with suppress(BrokenPipeError):  # it has died, as its output will tell
            self._orders.write(order.encode() + b"\n")
            self._orders.flush()

    def lines(self) -> Iterator[str]:
        """What it printed since, without waiting for more; empty lines and its failure apart."""
        data = os.read(self.output.fileno(), 1 << 16)
        *whole, self._rest = (self._rest + data).split(b"\n")
        for line in whole:
            text = line.decode(errors="replace").rstrip()
            if text == ENDED:
                self.run, self.failure = "", "\n".join(self._told)
            elif self._told:
                self._told.append(text)
            elif text.startswith(FAILED):
                self._told = [text.removeprefix(FAILED)]
            elif text:
                yield text
        if not data:
            self.has_ended = True
            if self.run:
                self.failure = f"run {self.run}: ended with status {self._child.wait()}"
                self.run = ""

    def end(self, *, at_once: bool) -> None:
        """Waits for it, or ends it; its caretaker ends what it started."""
        if at_once:
            self._child.kill()
        with suppress(BrokenPipeError):
            self._orders.close()
        self._child.wait()
        self.output.close()
