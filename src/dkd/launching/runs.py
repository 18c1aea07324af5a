"""The processes of a run on this machine: the components that KFP's local runner starts, and
whatever they start. They carry the run's mark in their environment, and end when the run does.
"""

import os
import signal
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from dkd.launching.local import grace_seconds
from dkd.launching.processes import kill_marked, marked

MARK = "DKD_RUN_ID"
"""Environment variable that marks a run's processes; its value holds the run's process id."""

_COMPONENT = b"kfp.dsl.executor_main"


@contextmanager
def run_processes() -> Iterator[None]:
    """Ends every process that was started inside, however the block is left.

    SIGTERM is handed to the running component, which lets its ranks save, before the block is
    left with status 143.
    """
    mark = f"{os.getpid()}-{uuid.uuid4().hex}"
    os.environ[MARK] = mark

    def stop(_number: int, _frame: FrameType | None) -> None:
        components = [p for p in marked(mark, MARK) if _COMPONENT in _command_line(p)]
        for component in components:
            os.kill(component, signal.SIGTERM)
        # Waited for here: leaving would close the pipe that the component writes to.
        end = time.monotonic() + grace_seconds()
        while any(map(_command_line, components)) and time.monotonic() < end:
            time.sleep(0.05)
        raise SystemExit(143)

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        kill_marked(mark, MARK)
        signal.signal(signal.SIGTERM, before)
        del os.environ[MARK]


def follow_run() -> None:
    """Lets this component, and all that it starts, end when the run that started it is gone.

    Does nothing outside such a run, in a pod for instance.
    """
    mark = os.environ.get(MARK)
    if mark is None or os.getpid() == int(mark.split("-")[0]):
        return

    def watch(process: int) -> None:
        while _command_line(process):  # empty for a zombie
            time.sleep(0.2)
        kill_marked(mark, MARK)
        print("dkd: the run that started this component is gone", file=sys.stderr)
        os._exit(1)

    threading.Thread(target=watch, args=(int(mark.split("-")[0]),), daemon=True).start()


def _command_line(process: int) -> bytes:
    try:
        return Path(f"/proc/{process}/cmdline").read_bytes()
    except OSError:
        return b""
