"""The processes of a run on this machine: the components that KFP's local runner starts, and
whatever they start. They carry the run's mark in their environment, have the run's folder for
their temporary files, and end when the run does.
"""

import os
import signal
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

import psutil

from dkd.kubeflow.internals import EXECUTOR
from dkd.launching.local import INTERRUPT_GRACE, grace_seconds
from dkd.launching.processes import marked, owned

RUN_MARK = "DKD_RUN_ID"
"""Environment variable that marks a run's processes."""

OWN_PROCESS = "dkd.kubeflow.local_pipeline"
"""Module of a run in a process of its own, which treats its components as this one would."""


@contextmanager
def run_processes() -> Iterator[None]:
    """Ends every process that was started inside, and removes their temporary files, however the
    block is left and however this process ends.

    SIGTERM is handed to the running components, which let their ranks save, before the block is
    left with status 143. Ctrl-C has reached them already, which are waited for likewise; after
    a second one they are not.
    """
    with owned(RUN_MARK) as (mark, folder):

        def stop(_number: int, _frame: FrameType | None) -> None:
            for component in _components(mark):
                with suppress(psutil.NoSuchProcess):
                    component.terminate()
            _wait_for_components(mark, grace_seconds())
            raise SystemExit(143)

        def interrupt(_number: int, _frame: FrameType | None) -> None:
            signal.signal(signal.SIGINT, signal.default_int_handler)
            _wait_for_components(mark, INTERRUPT_GRACE + 1)
            raise KeyboardInterrupt

        environment = dict(os.environ)
        before = {
            signal.SIGTERM: signal.signal(signal.SIGTERM, stop),
            signal.SIGINT: signal.signal(signal.SIGINT, interrupt),
        }
        os.environ |= {RUN_MARK: mark, "TMPDIR": str(folder)}
        tempfile.tempdir = None  # this process's own files go there too
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
            os.environ.clear()
            os.environ.update(environment)
            tempfile.tempdir = None


def _components(mark: str) -> list[psutil.Process]:
    found = []
    for process in marked(mark, RUN_MARK):
        with suppress(psutil.Error):  # ended meanwhile
            if {EXECUTOR, OWN_PROCESS} & set(process.cmdline()):
                found.append(process)
    return found


def _wait_for_components(mark: str, seconds: float) -> None:
    """Waits in the signal's handler: leaving it would close the pipe that they write to.

    Not by psutil's own wait, which would take their exit status from KFP's runner.
    """
    end = time.monotonic() + seconds
    while _components(mark) and time.monotonic() < end:
        time.sleep(0.05)
