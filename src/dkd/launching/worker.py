"""What a worker does about its place in a job; called at the start of ``dkd.train``."""

import ctypes
import os
import signal
import sys

PARENT = "DKD_TORCHRUN_PID"
"""Environment variable with the id of the torchrun process that started this worker."""

_PR_SET_PDEATHSIG = 1  # <linux/prctl.h>


def follow_parent() -> None:
    """Lets this process die with the torchrun that started it, even if that is SIGKILLed.

    Without this a rank outlives its torchrun and keeps GPU, memory and ports until some
    collective operation times out. Does nothing on systems without ``prctl``.
    """
    if sys.platform != "linux":
        return
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    expected = os.environ.get(PARENT)
    if expected is not None and os.getppid() != int(expected):  # died before the call above
        os.kill(os.getpid(), signal.SIGKILL)
