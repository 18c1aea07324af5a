"""Processes that belong together, and their temporary folder: found, and ended with their owner.

They carry a mark in their environment, which their children inherit, loader processes included.
Whatever happened to the ones in between, the mark finds those left over.

    python processes.py VARIABLE MARK FOLDER

is the *caretaker* that :func:`owned` starts beside them; it imports nothing else of ``dkd``.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

LONGEST_PARENT = 107 - len("/dkd-????????/pymp-????????/listener-????????")
"""Bytes of a temporary folder's path in which sockets can still be bound."""


@contextmanager
def owned(variable: str) -> Iterator[tuple[str, Path]]:
    """A mark and a temporary folder. However the block is left, and however this process ends,
    SIGKILL included, all processes with the mark are ended and then the folder is removed.

    Args:
        variable: name of the environment variable that holds the mark.

    Yields:
        The mark, to be put into the environment of what is started, and the folder, to be its
        ``TMPDIR``. It is in this process's temporary folder, or in ``/tmp`` if that one's name is
        long: loader workers bind Unix sockets in there (``pymp-????????/listener-????????``),
        whose paths may have 107 bytes, and hang where they cannot.

    Raises:
        OSError: neither can be written.
    """
    mark = uuid.uuid4().hex
    usual = tempfile.gettempdir()
    short = usual if len(os.fsencode(usual)) <= LONGEST_PARENT else "/tmp"  # noqa: S108 - mkdtemp
    folder = Path(tempfile.mkdtemp(prefix="dkd-", dir=short))
    # A session of its own: Ctrl-C in the terminal must not reach it.
    with subprocess.Popen(
        [sys.executable, "-P", __file__, variable, mark, str(folder)],
        stdin=subprocess.PIPE,  # closed by whatever ends this process
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    ):
        try:
            yield mark, folder
        finally:
            _end(variable, mark, folder)


def marked(mark: str, variable: str) -> list[psutil.Process]:
    """The living processes with this mark, without the calling one; zombies do not count."""
    # The environment of a zombie is empty, that of another user's process is None.
    return [
        process
        for process in psutil.process_iter(["environ"])
        if process.pid != os.getpid() and (process.info["environ"] or {}).get(variable) == mark
    ]


def kill_marked(mark: str, variable: str) -> None:
    """SIGKILLs every process with this mark and waits until none is left.

    Gives up after 10 s: a process in uninterruptible sleep (a wedged GPU or disk) cannot be
    killed by anyone.
    """
    end = time.monotonic() + 10
    while (left := marked(mark, variable)) and time.monotonic() < end:
        for process in left:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        time.sleep(0.02)


def _end(variable: str, mark: str, folder: Path) -> None:
    kill_marked(mark, variable)
    shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    sys.stdin.read()
    _end(sys.argv[1], sys.argv[2], Path(sys.argv[3]))
