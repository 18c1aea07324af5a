"""Finding and ending every process that belongs to a job on this machine.

The processes of a job carry a mark in their environment, which their children inherit, loader
processes included. Whatever happened to the ones in between, the mark finds those left over.
Reads ``/proc`` (Linux, ``man 5 proc``).
"""

import os
import signal
import time
from pathlib import Path

MARK = "DKD_LAUNCH_ID"
"""Environment variable that marks a job's processes."""


def marked(identity: str, variable: str = MARK) -> list[int]:
    """Ids of the living processes with this mark, without the calling one; zombies do not count."""
    needle = f"{variable}={identity}".encode()
    found = []
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit() or int(folder.name) == os.getpid():
            continue
        try:
            environment = (folder / "environ").read_bytes().split(b"\0")
        except OSError:  # gone meanwhile, or another user's
            continue
        if needle in environment:  # a zombie's environment is empty
            found.append(int(folder.name))
    return found


def kill_marked(identity: str, variable: str = MARK) -> None:
    """SIGKILLs every process with this mark and waits until none is left.

    Gives up after 10 s: a process in uninterruptible sleep (a wedged GPU or disk) cannot be
    killed by anyone.
    """
    end = time.monotonic() + 10
    while (left := marked(identity, variable)) and time.monotonic() < end:
        for process in left:
            try:
                os.kill(process, signal.SIGKILL)
            except ProcessLookupError:
                continue
        time.sleep(0.02)
