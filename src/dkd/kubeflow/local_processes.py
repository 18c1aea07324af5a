"""The processes on this machine that run pipelines (:mod:`dkd.kubeflow.local_pipeline`)."""

import os
import selectors
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType

from dkd.errors import UserError
from dkd.kubeflow.local_pipeline import ENDED, FAILED, Planned
from dkd.kubeflow.signals import passed_on
from dkd.launching.processes import kill_marked, owned
from dkd.log import is_event

RUN_MARK = "DKD_RUN_ID"
"""Environment variable that marks such a process and whatever is started by it."""

# Without this folder, whose own folders (docker/) would be taken for packages.
COMMAND = (sys.executable, "-P", "-m", "dkd.kubeflow.local_pipeline")


class PipelineProcesses:
    """Processes that run pipelines, each one after the other; a context manager.

    They are started at once, so that they import what they need while the store starts. However
    the block is left, and however this process ends, they end, with all that they have started,
    and their temporary files are removed. SIGTERM and Ctrl-C are handed to them
    (:func:`dkd.kubeflow.signals.passed_on`).

    Args:
        count: how many.
    """

    def __init__(self, count: int) -> None:
        self._count = count
        self._environment: dict[str, str] = {}
        self._processes: list[_Process] = []
        self._open = ExitStack()

    def __enter__(self) -> "PipelineProcesses":
        self._environment = dict(os.environ)
        with ExitStack() as opening:
            opening.enter_context(passed_on(lambda: [each.number for each in self._processes]))
            for _ in range(self._count):
                self._processes.append(opening.enter_context(_Process()))
            self._open = opening.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._open.__exit__(kind, error, trace)

    def run(
        self, runs: Sequence[Planned], root: str, workspace: Path, say: Callable[[str], None]
    ) -> None:
        """Runs pipelines. Where there are several processes, every line is told with the run's name
        before it, but for an event (:mod:`dkd.log`), which says it itself.

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
        alone = self._count == 1
        changed = {k: v for k, v in os.environ.items() if self._environment.get(k) != v}
        waiting = list(runs) if alone else sorted(runs, key=lambda planned: len(planned.epochs))
        failures: list[str] = []
        with selectors.DefaultSelector() as reading:
            for process in self._processes:
                reading.register(process.output, selectors.EVENT_READ, process)
            while any(process.run for process in self._processes) or waiting:
                for process in self._processes:
                    if not process.run and waiting:
                        process.begin(waiting.pop(0), root, workspace, changed)
                        number = len(runs) - len(waiting)
                        begins = f"\n=== run {number}/{len(runs)}: {process.run}"
                        say(begins if alone else f"{process.run} | begins")
                for key, _events in reading.select():
                    process = key.data
                    name = process.run
                    for line in process.lines():
                        say(line if alone or is_event(line) else f"{name} | {line}")
                    if process.failure:
                        failures.append(process.failure)
                        waiting, process.failure = [], ""
                    if process.has_ended:
                        reading.unregister(process.output)
        if failures:
            raise UserError("\n".join(failures))


class _Process:
    """A process, the run that it is at, and what it has printed that is not told yet; a context
    manager.
    """

    def __init__(self) -> None:
        self._open = ExitStack()
        self._mark, folder = self._open.enter_context(owned(RUN_MARK))
        own = {
            RUN_MARK: self._mark,
            "TMPDIR": str(folder),
            "OMP_NUM_THREADS": "1",  # NumPy's threads would not live through a fork
        }
        self._child = subprocess.Popen(
            COMMAND,
            env={**os.environ, **own},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        assert self._child.stdin is not None
        assert self._child.stdout is not None
        self._orders, self.output = self._child.stdin, self._child.stdout
        self.number = self._child.pid
        self.run = self.failure = ""
        self.has_ended = False
        self._rest = b""
        self._told: list[str] = []

    def __enter__(self) -> "_Process":
        return self

    def __exit__(self, *_: object) -> None:
        """Ends it: it is at no run, or the block is not left in peace. There is nothing to save."""
        with self._open:
            self._child.kill()
            with suppress(BrokenPipeError):
                self._orders.close()
            self._child.wait()
            self.output.close()

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
            kill_marked(self._mark, RUN_MARK)  # what it had started
            if self.run:
                self.failure = f"run {self.run}: ended with status {self._child.wait()}"
                self.run = ""
