"""The processes of a run on this machine: the components that KFP's local runner starts, and
whatever they start. They carry the run's mark in their environment, have the run's folder for
their temporary files, and end when the run does.
"""

import os
import signal
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from dkd.launching.local import grace_seconds
from dkd.launching.processes import marked, owned

MARK = "DKD_RUN_ID"
"""Environment variable that marks a run's processes."""

_COMPONENT = b"kfp.dsl.executor_main"


@contextmanager
def run_processes() -> Iterator[None]:
    """Ends every process that was started inside, and removes their temporary files, however the
    block is left and however this process ends.

    SIGTERM is handed to the running component, which lets its ranks save, before the block is
    left with status 143.
    """
    with owned(MARK) as (mark, folder):

        def stop(_number: int, _frame: FrameType | None) -> None:
            components = [p for p in marked(mark, MARK) if _COMPONENT in _command_line(p)]
            for component in components:
                os.kill(component, signal.SIGTERM)
            # Waited for here: leaving would close the pipe that the component writes to.
            end = time.monotonic() + grace_seconds()
            while any(map(_command_line, components)) and time.monotonic() < end:
                time.sleep(0.05)
            raise SystemExit(143)

        environment = dict(os.environ)
        before = signal.signal(signal.SIGTERM, stop)
        os.environ |= {MARK: mark, "TMPDIR": str(folder)}
        tempfile.tempdir = None  # this process's own files go there too
        try:
            yield
        finally:
            signal.signal(signal.SIGTERM, before)
            os.environ.clear()
            os.environ.update(environment)
            tempfile.tempdir = None


def _command_line(process: int) -> bytes:
    try:
        return Path(f"/proc/{process}/cmdline").read_bytes()
    except OSError:
        return b""
