"""What every store can do, and the vocabulary they share."""

import errno
import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Protocol

from dkd.errors import UserError

PIECE = 1 << 20
"""Bytes in memory at a time, per transfer."""


class NotFound(UserError):  # noqa: N818 - read as a sentence where it is raised
    """Nothing lies at the URI."""


class Damaged(UserError):  # noqa: N818
    """What lies at the URI is not what was written there."""


@dataclass(frozen=True)
class Entry:
    """An object in a listing: its URI, size in bytes and time of last change (aware)."""

    uri: str
    size: int
    modified: datetime


@dataclass(frozen=True)
class Unfinished:
    """What a writer that was killed left behind: a multi-part upload, or a temporary file.

    Attributes:
        uri: what it would have become.
        started: when it was begun (aware).
        handle: the upload's id, or the temporary file's path.
    """

    uri: str
    started: datetime
    handle: str


class Store(Protocol):
    """A place for objects named by URI. Every write is whole or absent."""

    @property
    def settle_seconds(self) -> float:
        """How long what should be there may take to show up after it was written."""

    def read(self, uri: str, start: int, length: int | None) -> bytes: ...

    def write(self, uri: str, data: bytes, *, if_absent: bool) -> bool: ...

    def size(self, uri: str) -> int | None: ...

    def holds(self, uri: str, size: int, sha256: str) -> bool: ...

    def list_objects(self, folder: str) -> Iterator[Entry]: ...

    def upload(self, path: Path, uri: str, sha256: str | None) -> None: ...

    def download(self, uri: str, path: Path, sha256: str | None) -> None: ...

    def delete(self, uris: Iterable[str]) -> None: ...

    def delete_folder(self, folder: str) -> None: ...

    def unfinished(self, folder: str) -> Iterator[Unfinished]: ...

    def abandon(self, unfinished: Unfinished) -> None: ...


def file_sha256(path: Path) -> str:
    """Return the sha256 of a file's content, in hexadecimal.

    Raises:
        UserError: the file cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise disk_error(error, path) from error


def disk_error(error: OSError, path: Path) -> UserError:
    """Say in one line what the operating system refused, and what to do."""
    if isinstance(error, FileNotFoundError):
        return NotFound(f"{path}: no such file or folder")
    if isinstance(error, FileExistsError | NotADirectoryError):
        return UserError(f"{path}: a file is where a folder is needed")
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return UserError(f"{path}: the disk is full; free some space or choose another folder")
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return UserError(f"{path}: permission denied; check the folder's owner and its mount")
    return UserError(f"{path}: {error.strerror or type(error).__name__}")
