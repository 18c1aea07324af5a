"""SIGTERM and Ctrl-C, handed down from the command to the component that launches a job."""

import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from types import FrameType

import psutil

from dkd.launching.local import INTERRUPT_GRACE, grace_seconds


@contextmanager
def passed_on(processes: Callable[[], Sequence[int]]) -> Iterator[None]:
    """Hands SIGTERM and SIGINT to other processes and waits until they have saved and ended; then
    the block is left with status 143 or by KeyboardInterrupt. After a second SIGINT they are not
    waited for.

    The others are in sessions of their own, or a terminal's Ctrl-C would reach them twice.

    Args:
        processes: numbers of those that run now.
    """

    def pass_on(number: int, _frame: FrameType | None) -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        interrupted = number == signal.SIGINT
        told = processes()
        for process in told:
            with suppress(ProcessLookupError):
                os.kill(process, number)
        # Here, because leaving the handler would close the pipe that they write to.
        end = time.monotonic() + (INTERRUPT_GRACE + 1 if interrupted else grace_seconds())
        while any(map(_lives, told)) and time.monotonic() < end:
            time.sleep(0.05)
        raise KeyboardInterrupt if interrupted else SystemExit(128 + number)

    before = {number: signal.signal(number, pass_on) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _lives(process: int) -> bool:
    """Not by waiting for it: its exit status is for whoever started it."""
    try:
        return bool(psutil.Process(process).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
