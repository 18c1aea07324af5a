"""The local backend: torchrun on this machine."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from dkd.errors import UserError
from dkd.launching import processes
from dkd.launching.interface import LAST_LINES, Interrupted, Job, JobFailed, require_result
from dkd.log import event_lines
from dkd.scenario.launch import Launch

LAUNCH_MARK = "DKD_LAUNCH_ID"
"""Environment variable that marks a job's processes."""

INTERRUPT_GRACE = 5.0
"""Seconds that workers have to leave after SIGINT."""

_TOGETHER = 1.0
"""Seconds within which failures of several ranks count as one death and its consequences."""


def grace_seconds(environment: Mapping[str, str] = os.environ) -> float:
    """Seconds that workers have to save and leave after SIGTERM: ``DKD_GRACE_SECONDS`` or 60.

    Raises:
        UserError: the variable is not a number of seconds.
    """
    text = environment.get("DKD_GRACE_SECONDS", "60")
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1
    if not 0 <= seconds < float("inf"):
        raise UserError(f"DKD_GRACE_SECONDS={text}: give a number of seconds, e.g. 60")
    return seconds


class LocalLauncher:
    """Runs jobs with torchrun on this machine; ``nodes`` only adds to the number of ranks.

    Rank 0's log is streamed to standard output, the other ranks' are kept for the message of
    a failure. When ``run`` returns or raises, or its process is killed, no process and no
    temporary file of the ranks is left.
    """

    def __init__(self, launch: Launch) -> None:
        self._ranks = launch.nodes * launch.processes_per_node
        self._threads = launch.threads

    def run(self, job: Job) -> None:
        """See :class:`dkd.launching.interface.Launcher`."""
        grace = grace_seconds()
        with processes.owned(LAUNCH_MARK) as (mark, folder), _signals() as received:
            ranks = _Ranks(job, self._ranks, self._threads, mark, folder, grace)
            try:
                ranks.follow(received)
            finally:
                ranks.end()
            received.raise_if_any()
            if ranks.exit_status != 0:
                raise JobFailed(ranks.failure())
        require_result(job)


@dataclass
class _Received:
    """The signal that came last, or 0, and how many came."""

    number: int = 0
    count: int = 0

    def note(self, number: int, _frame: FrameType | None) -> None:
        self.number = number
        self.count += 1

    def raise_if_any(self) -> None:
        if self.number == signal.SIGTERM:
            raise Interrupted
        if self.number == signal.SIGINT:
            raise KeyboardInterrupt


@contextmanager
def _signals() -> Iterator[_Received]:
    """Notes SIGTERM and SIGINT instead of acting on them, where Python lets us: main thread."""
    received = _Received()
    if threading.current_thread() is not threading.main_thread():
        yield received
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    for number in before:
        signal.signal(number, received.note)
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class _Ranks:
    """One running torchrun and the files that its ranks write."""

    def __init__(
        self, job: Job, ranks: int, threads: int, mark: str, folder: Path, grace: float
    ) -> None:
        self._job, self._ranks, self._grace, self._mark = job, ranks, grace, mark
        self._report = folder / "failures.json"
        self._logs = folder / "logs"
        self._own_log = folder / "torchrun.log"
        command = [
            *(sys.executable, "-m", "dkd.launching.torchrun"),
            str(self._report),
            *("--nnodes", "1", "--nproc-per-node", str(ranks), "--max-restarts", "0"),
            # Port 0: torchrun's own store takes a free port and keeps it, so nothing can race.
            *("--rdzv-backend", "c10d", "--rdzv-endpoint", "127.0.0.1:0"),
            *("--rdzv-id", job.name, "--local-addr", "127.0.0.1"),
            *("--log-dir", str(self._logs), "--redirects", "3"),
            *("-m", job.module, *job.arguments),
        ]
        environment = {
            "GLOO_SOCKET_IFNAME": "lo",  # otherwise gloo looks up the machine's name
            **os.environ,
            **job.environment,
            "OMP_NUM_THREADS": str(threads),
            "PYTHONUNBUFFERED": "1",  # into a file Python would buffer progress
            "TORCH_ELASTIC_SHUTDOWN_TIMEOUT": str(int(grace)),
            "TMPDIR": str(folder),
            LAUNCH_MARK: mark,
        }
        with self._own_log.open("wb") as log:
            # A session of its own: Ctrl-C in the terminal reaches the launching process alone.
            self._process = subprocess.Popen(
                command,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def exit_status(self) -> int | None:
        return self._process.returncode

    def follow(self, received: _Received) -> None:
        """Prints rank 0's lines until torchrun ends by itself or because of a signal."""
        tails = [_Tail(self._logs, f"*/attempt_0/0/{name}.log") for name in ("stdout", "stderr")]
        deadline = float("inf")
        answered = 0
        while self._process.poll() is None:
            if received.count > answered:
                answered = received.count
                deadline = self._ask_to_stop(received)
            if time.monotonic() > deadline:
                return  # end() kills what is left
            for tail in tails:
                tail.print_new()
            time.sleep(0.1)
        for tail in tails:
            tail.print_new(final=True)

    def _ask_to_stop(self, received: _Received) -> float:
        """Tells torchrun, which tells its ranks; returns when patience ends."""
        if received.count > 1:
            return 0.0
        wait = self._grace if received.number == signal.SIGTERM else INTERRUPT_GRACE
        print(f"stopping {self._job.name}: its workers have {wait:g} s to save", flush=True)
        self._process.send_signal(signal.SIGTERM)
        return time.monotonic() + wait

    def end(self) -> None:
        """Leaves no process of the job behind."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        processes.kill_marked(self._mark, LAUNCH_MARK)

    def failure(self) -> str:
        """What to say about a torchrun that failed."""
        name = self._job.name
        if not self._report.exists():
            own = _last_lines(self._own_log.read_text(encoding="utf-8", errors="replace"))
            return _with_lines(f"job {name}: torchrun {ended(self._process.returncode)}", own)
        failures = [
            Failure(**each) for each in json.loads(self._report.read_text(encoding="utf-8"))
        ]
        first = root_cause(failures, {each.rank: self._last_written(each) for each in failures})
        lines = _last_lines(self._output(first.rank, "stderr"))
        lines = lines or _last_lines(self._output(first.rank, "stdout"))
        if first.exit_code == 2 and lines and lines[-1].startswith("dkd: "):
            return lines[-1].removeprefix("dkd: ")  # the worker has already said it in one line
        return _with_lines(
            f"job {name}: rank {first.rank} of {self._ranks} {ended(first.exit_code)}", lines
        )

    def _file(self, rank: int, stream: str) -> Path | None:
        return next(iter(self._logs.glob(f"*/attempt_0/{rank}/{stream}.log")), None)

    def _output(self, rank: int, stream: str) -> str:
        path = self._file(rank, stream)
        return path.read_text(encoding="utf-8", errors="replace") if path else ""

    def _last_written(self, failure: "Failure") -> float:
        path = self._file(failure.rank, "stderr")
        return path.stat().st_mtime if path else failure.time


@dataclass(frozen=True)
class Failure:
    """How a rank ended.

    Attributes:
        rank: which one.
        exit_code: its exit status; minus the signal's number if it was killed by one.
        time: when torchrun noticed, in seconds.
    """

    rank: int
    exit_code: int
    time: float


def root_cause(failures: Sequence[Failure], last_written: Mapping[int, float]) -> Failure:
    """The failure that made the other ranks fail.

    When a rank dies, its peers' collective operations fail within milliseconds and torchrun
    may find all of them dead at once. Of those that died together, one killed by a signal
    comes first, then the one that wrote its error first. Ranks that torchrun itself stopped
    (SIGTERM) never count while there is another.

    Args:
        failures: one or more.
        last_written: when each rank last wrote to its standard error, in seconds.
    """
    stopped = (-signal.SIGTERM, 128 + signal.SIGTERM)
    candidates = [each for each in failures if each.exit_code not in stopped] or failures
    earliest = min(each.time for each in candidates)
    together = [each for each in candidates if each.time <= earliest + _TOGETHER]
    return min(together, key=lambda each: (each.exit_code >= 0, last_written[each.rank]))


class _Tail:
    """Prints the lines that a file gains; the file may not exist yet."""

    def __init__(self, folder: Path, pattern: str) -> None:
        self._folder, self._pattern = folder, pattern
        self._path: Path | None = None
        self._position = 0

    def print_new(self, *, final: bool = False) -> None:
        """Prints whole lines; at the end the last one too if it lacks its newline."""
        if self._path is None:
            self._path = next(iter(self._folder.glob(self._pattern)), None)
        if self._path is None:
            return
        with self._path.open("rb") as file:
            file.seek(self._position)
            data = file.read()
        whole = len(data) if final else data.rfind(b"\n") + 1
        self._position += whole
        text = data[:whole].decode(errors="replace")
        for line in text.splitlines():
            print(line, flush=True)


def _last_lines(text: str) -> list[str]:
    return [line for line in event_lines(text.splitlines()) if line.strip()][-LAST_LINES:]


def _with_lines(message: str, lines: list[str]) -> str:
    if not lines:
        return f"{message} without a word"
    return "\n    ".join([f"{message}; its last lines:", *lines])


def ended(exit_code: int) -> str:
    """How a process ended, in words; its exit status, or minus the signal's number."""
    if exit_code >= 0:
        return f"failed with exit code {exit_code}"
    name = signal.Signals(-exit_code).name
    hint = " (out of memory?)" if name == "SIGKILL" else ""
    return f"was killed by {name}{hint}"
