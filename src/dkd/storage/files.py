"""Local folders as a store: ``file://`` URIs and plain paths."""

import hashlib
import os
import re
import secrets
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote, unquote

from filelock import FileLock

from dkd.errors import UserError
from dkd.storage.store import PIECE, Damaged, Entry, NotFound, Unfinished, disk_error, file_sha256

_PARTIAL = re.compile(r"\.(?P<name>.+)\.[0-9a-f]{12}\.partial")


@contextmanager
def placed(target: Path, *, durable: bool, replace: bool = True) -> Iterator[Path]:
    """Give a temporary path beside ``target`` that becomes ``target`` if the block succeeds.

    Args:
        target: the file to make; missing folders above it are made.
        durable: also survive a power cut (fsync of file and folder).
        replace: take the place of a file that exists.

    Raises:
        FileExistsError: ``target`` exists and ``replace`` is false.
        UserError: disk full, or the folder is not writable.
    """
    # File systems take names of 255 bytes, and the target's may be as long.
    name = target.name if len(os.fsencode(target.name)) < 220 else secrets.token_hex(6)
    partial = target.parent / f".{name}.{secrets.token_hex(6)}.partial"
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        partial.touch(exist_ok=False)
        yield partial
        if durable:
            _sync(partial)
        if replace:
            partial.replace(target)
        else:
            target.hardlink_to(partial)  # unlike rename, fails if the target exists
        if durable:
            _sync(target.parent)
    except FileExistsError:
        if not replace and target.exists():
            raise
        raise UserError(f"{target.parent}: a file is where a folder is needed") from None
    except OSError as error:
        raise disk_error(error, target) from error
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a lock among this machine's processes; the kernel frees it when its holder ends.

    Args:
        path: the lock's file, which stays; missing folders above it are made.

    Raises:
        UserError: the file cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        held = FileLock(path).acquire()
    except OSError as error:
        raise disk_error(error, path) from error
    with held:
        yield


@contextmanager
def scratch(parent: Path, prefix: str) -> Iterator[Path]:
    """Give a new folder for temporary files on the disk of ``parent``; remove it afterwards.

    Those of processes that were killed are removed too: beside each folder lies a lock, which the
    kernel frees when its holder ends.

    Args:
        parent: made if it is missing.
        prefix: of the folder's name; of nothing else in there.

    Raises:
        OSError: ``parent`` cannot be written.
    """
    parent.mkdir(parents=True, exist_ok=True)
    for left in parent.glob(f"{prefix}*.lock"):
        with suppress(OSError), FileLock(left, blocking=False):
            shutil.rmtree(left.with_suffix(""), ignore_errors=True)
            left.unlink()
    folder = parent / f"{prefix}{secrets.token_hex(6)}"
    lock = folder.with_name(f"{folder.name}.lock")
    with FileLock(lock):
        try:
            folder.mkdir()
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            with suppress(OSError):  # Windows removes it when it is freed, and not before
                lock.unlink()


def partials(folder: Path) -> Iterator[tuple[Path, Path]]:
    """Yield temporary files under ``folder`` and what they would have become."""
    for path in _files(folder):
        if match := _PARTIAL.fullmatch(path.name):
            yield path, path.with_name(match["name"])


def _files(folder: Path) -> list[Path]:
    """Files under a folder, sorted. Not ``Path.rglob``: it fails when a folder goes meanwhile."""
    return sorted(Path(parent, name) for parent, _, names in os.walk(folder) for name in names)


class FileStore:
    """Objects as files: temporary file, fsync, rename; a hard link where only one may win."""

    @property
    def settle_seconds(self) -> float:
        return 0.0

    def read(self, uri: str, start: int, length: int | None) -> bytes:
        path = local_path(uri)
        try:
            with path.open("rb") as file:
                file.seek(start)
                return file.read(-1 if length is None else length)
        except OSError as error:
            raise disk_error(error, path) from error

    def write(self, uri: str, data: bytes, *, if_absent: bool) -> bool:
        path = local_path(uri)
        try:
            with placed(path, durable=True, replace=not if_absent) as partial:
                partial.write_bytes(data)
        except FileExistsError:
            return False
        return True

    def size(self, uri: str) -> int | None:
        path = local_path(uri)
        try:
            return path.stat().st_size if path.is_file() else None
        except OSError as error:
            raise disk_error(error, path) from error

    def holds(self, uri: str, size: int, sha256: str) -> bool:
        return self.size(uri) == size and file_sha256(local_path(uri)) == sha256

    def list_objects(self, folder: str) -> Iterator[Entry]:
        for path in _files(local_path(folder)):
            with suppress(FileNotFoundError):  # gone since it was listed
                if path.is_file() and not _PARTIAL.fullmatch(path.name):
                    status = path.stat()
                    modified = datetime.fromtimestamp(status.st_mtime, UTC)
                    yield Entry(_uri(folder, path), status.st_size, modified)

    def upload(self, path: Path, uri: str, sha256: str | None) -> None:
        _copy(path, local_path(uri), sha256, f"{path}: changed while it was being copied")

    def download(self, uri: str, path: Path, sha256: str | None) -> None:
        _copy(local_path(uri), path, sha256, f"{uri}: not what was written there (sha256 differs)")

    def delete(self, uris: Iterable[str]) -> None:
        for uri in uris:
            path = local_path(uri)
            try:
                path.unlink(missing_ok=True)
            except OSError as error:
                raise disk_error(error, path) from error

    def delete_folder(self, folder: str) -> None:
        path = local_path(folder)
        try:
            shutil.rmtree(path)
        except FileNotFoundError:
            return
        except OSError as error:
            raise disk_error(error, path) from error

    def unfinished(self, folder: str) -> Iterator[Unfinished]:
        for partial, target in partials(local_path(folder)):
            with suppress(FileNotFoundError):
                started = datetime.fromtimestamp(partial.stat().st_mtime, UTC)
                yield Unfinished(_uri(folder, target), started, str(partial))

    def abandon(self, unfinished: Unfinished) -> None:
        Path(unfinished.handle).unlink(missing_ok=True)


def local_path(uri: str) -> Path:
    """Return the path that a ``file://`` URI or a plain path names."""
    if not uri.startswith("file://"):
        return Path(uri)
    path = uri.removeprefix("file://")
    if not path.startswith("/"):
        raise UserError(f"{uri}: write file:///absolute/path, or a plain path")
    return Path(unquote(path))


def _uri(folder: str, path: Path) -> str:
    relative = path.relative_to(local_path(folder)).as_posix()
    name = quote(relative) if folder.startswith("file://") else relative
    return f"{folder.rstrip('/')}/{name}"


def _copy(source: Path, target: Path, sha256: str | None, mismatch: str) -> None:
    digest = hashlib.sha256()
    try:
        reader = source.open("rb")
    except FileNotFoundError:
        raise NotFound(f"{source}: no such file") from None
    except OSError as error:
        raise disk_error(error, source) from error
    with reader, placed(target, durable=True) as partial, partial.open("wb") as writer:
        while piece := reader.read(PIECE):
            digest.update(piece)
            writer.write(piece)
        if sha256 is not None and digest.hexdigest() != sha256:
            raise Damaged(mismatch)


def _sync(path: Path) -> None:
    folder = path.is_dir()
    if folder and os.name == "nt":  # Windows opens no folders, and syncs only what may be written
        return
    descriptor = os.open(path, os.O_RDONLY if folder else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
