"""What a worker does about its place in a job; called at the start of ``dkd.train``."""

import ctypes
import json
import os
import signal
import sys
import traceback
from datetime import UTC, datetime
from types import TracebackType

from dkd import log

PARENT = "DKD_TORCHRUN_PID"
"""Environment variable with the id of the torchrun process that started this worker."""

LAST_WORDS = "DKD_TERMINATION_LOG"
"""Environment variable with the file that Kubernetes shows as a container's last message."""

_MISTAKES = (AssertionError, AttributeError, ImportError, LookupError, NameError, TypeError)
_MOST_BYTES = 4000  # Kubernetes keeps 4096 bytes of a container's message
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


def report_exceptions() -> None:
    """Leaves an uncaught exception's last lines for the launching task (:func:`last_words`).

    The program's own mistakes would be made again after a restart; what libraries raise for the
    world around them (``RuntimeError``, ``OSError``, ``ValueError``) may pass.
    """

    def hook(kind: type[BaseException], value: BaseException, trace: TracebackType | None) -> None:
        log.uncaught(kind, value, trace)
        text = "".join(traceback.format_exception(kind, value, trace))
        last_words(text, final=issubclass(kind, _MISTAKES))

    sys.excepthook = hook


def last_words(text: str, *, bad_input: bool = False, final: bool = False) -> None:
    """Leaves word of this rank's end where the launching task finds it, on a cluster.

    The first rank of a node to do so is the one heard: the others die of its death. Elsewhere
    than on a cluster this does nothing, and an error in writing is no reason to fail otherwise.

    Args:
        text: why, the most telling lines last.
        bad_input: the last line says to a person what is wrong with the input.
        final: trying again would end the same way; so it does with bad input.
    """
    path = os.environ.get(LAST_WORDS)
    if not path:
        return
    lines = [line for line in text.splitlines() if line.strip()][-15:]
    document = {
        "rank": int(os.environ.get("RANK", "0")),
        "time": datetime.now(UTC).isoformat(),
        "lines": lines,
        "bad_input": bad_input,
        "final": bad_input or final,
    }
    while len(json.dumps(document)) > _MOST_BYTES:
        lines[0] = lines[0][len(lines[0]) // 2 + 1 :]
        if not lines[0]:
            lines.pop(0)
    try:
        file = os.open(path, os.O_WRONLY | os.O_APPEND)
        try:
            if os.fstat(file).st_size == 0:
                os.write(file, json.dumps(document).encode())
        finally:
            os.close(file)
    except OSError:
        return
