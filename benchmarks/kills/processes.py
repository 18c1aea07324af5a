"""Processes, by a reading of /proc of this program's own, independent of what dkd itself reads."""

import ctypes
import os
from pathlib import Path


def all_processes() -> list[int]:
    return [int(path.name) for path in Path("/proc").glob("[0-9]*")]


def command_line(process: int) -> list[bytes]:
    try:
        return Path(f"/proc/{process}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return [b""]


def parent(process: int) -> int | None:
    try:
        text = Path(f"/proc/{process}/stat").read_text()
    except OSError:
        return None
    state, number = text.rpartition(")")[2].split()[:2]
    return None if state == "Z" else int(number)


def marked(variable: str, mark: str) -> list[int]:
    found = []
    for process in all_processes():
        try:
            if f"{variable}={mark}".encode() in Path(f"/proc/{process}/environ").read_bytes():
                found.append(process)
        except OSError:
            continue
    return found


def working_in(folder: Path) -> list[int]:
    found = []
    for process in all_processes():
        try:
            if Path(f"/proc/{process}/cwd").readlink().is_relative_to(folder):
                found.append(process)
        except OSError:
            continue
    return found


def orphans() -> list[int]:
    """This program's children: it is the reaper of its descendants, and has just waited for the
    one that it started itself.
    """
    while True:
        try:
            if os.waitpid(-1, os.WNOHANG)[0] == 0:
                break
        except ChildProcessError:
            break
    return [process for process in all_processes() if parent(process) == os.getpid()]


def become_reaper() -> None:
    if ctypes.CDLL(None).prctl(36, 1, 0, 0, 0) != 0:  # PR_SET_CHILD_SUBREAPER
        raise OSError("prctl")
