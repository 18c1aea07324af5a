"""Objects by URI: ``s3://``, ``minio://`` (Kubeflow Pipelines' default), ``file://``, plain paths.

Every write is whole or absent, on S3 and in folders alike. Transfers are parallel, retried and
verified. What goes wrong is told as one :class:`~dkd.errors.UserError` line. Settings come from
the environment (``docs/reference/environment.md``).

    storage.upload(Path("weights.safetensors"), "s3://bucket/weights/resnet101.safetensors")
"""

import json
import re
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from dkd.errors import UserError
from dkd.storage.files import FileStore, local_path
from dkd.storage.store import Damaged, Entry, NotFound, Store, Unfinished, file_sha256

__all__ = [
    "Damaged",
    "Entry",
    "NotFound",
    "Unfinished",
    "abandon",
    "delete",
    "delete_folder",
    "download",
    "exists",
    "file_sha256",
    "is_local",
    "join",
    "list_objects",
    "local_path",
    "open_store",
    "read_bytes",
    "read_document",
    "read_range",
    "require_conditional_writes",
    "size",
    "unfinished",
    "upload",
    "write_bytes",
]

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")


def open_store(uri: str) -> Store:
    """Return the store that keeps ``uri``.

    Raises:
        UserError: the URI is empty or its scheme is not known.
    """
    if not uri:
        raise UserError("an empty URI: give s3://bucket/folder, file:///folder or a path")
    match = _SCHEME.match(uri)
    scheme = match[1] if match else "file"
    if scheme == "file":
        return FileStore()
    if scheme in ("s3", "minio"):
        from dkd.storage.s3 import S3Store  # boto3 takes long to import; folders do without

        return S3Store(scheme)
    raise UserError(f"{uri}: unknown scheme {scheme}://; use s3://, minio://, file:// or a path")


def is_local(uri: str) -> bool:
    """Whether ``uri`` names a file or folder of this machine."""
    return isinstance(open_store(uri), FileStore)


def join(uri: str, *parts: str) -> str:
    """Return the URI of something inside ``uri``: ``join("s3://b/a", "c", "d")`` is s3://b/a/c/d."""
    inner = [part.strip("/") for part in parts if part.strip("/")]
    if not inner:
        return uri
    start = uri if uri.endswith("/") else uri + "/"
    return start + "/".join(inner)


def read_bytes(uri: str) -> bytes:
    """Return an object's content.

    Raises:
        NotFound: there is none.
        Damaged: it is not what was written.
    """
    return open_store(uri).read(uri, 0, None)


def read_document(uri: str) -> dict[str, Any]:
    """Return the JSON object that is an object's content.

    Raises:
        NotFound: there is none.
        UserError: it is something else.
    """
    try:
        document = json.loads(read_bytes(uri))
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict):
        raise UserError(f"{uri}: not a JSON object; restore it from a backup, or remove it")
    return document


def read_range(uri: str, start: int, length: int) -> bytes:
    """Return ``length`` bytes from offset ``start``; fewer where the object ends.

    Raises:
        NotFound: there is no such object.
    """
    return open_store(uri).read(uri, start, length)


def write_bytes(uri: str, data: bytes, *, if_absent: bool = False) -> bool:
    """Write an object, whole or not at all.

    Args:
        uri: where to.
        data: its content.
        if_absent: leave what is there; of several writers exactly one wins.

    Returns:
        Whether it was written; False only with ``if_absent``.
    """
    return open_store(uri).write(uri, data, if_absent=if_absent)


def require_conditional_writes(folder: str) -> None:
    """Tries whether the store creates an object only where there is none (``If-None-Match``).

    Raises:
        UserError: it does not.
    """
    probe = join(folder, f".probe-{uuid.uuid4().hex}")
    try:
        write_bytes(probe, b"one", if_absent=True)
        overwritten = write_bytes(probe, b"another", if_absent=True)
    finally:
        delete([probe])
    if overwritten:
        raise UserError(
            f"{folder}: the store overwrites what was only to be created (it ignores "
            "If-None-Match), so that runs cannot tell which of them trains a step; use a newer "
            "version of it, or another store"
        )


def size(uri: str) -> int | None:
    """Return an object's size in bytes, None if there is none."""
    return open_store(uri).size(uri)


def exists(uri: str) -> bool:
    """Whether there is an object at ``uri`` (a folder is none)."""
    return size(uri) is not None


def list_objects(folder: str) -> Iterator[Entry]:
    """Yield every object under a folder, at any depth, in the order of their names."""
    return open_store(folder).list_objects(folder)


def upload(path: Path, uri: str, *, sha256: str | None = None) -> None:
    """Copy a file to ``uri``; large ones in parallel parts.

    Args:
        path: the file.
        uri: where to.
        sha256: its digest if it is known already, kept with the object for its readers.
    """
    open_store(uri).upload(path, uri, sha256)


def download(uri: str, path: Path, *, sha256: str | None = None) -> None:
    """Copy an object to a file, which appears whole or not at all.

    Args:
        uri: what to copy.
        path: the file; missing folders above it are made.
        sha256: what the content's digest must be; else that which the writer left, if any.

    Raises:
        NotFound: there is no such object.
        Damaged: its content has another digest.
    """
    open_store(uri).download(uri, path, sha256)


def delete(uris: Iterable[str]) -> None:
    """Delete objects; those that are not there are no error."""
    for uri in uris:
        open_store(uri).delete([uri])


def delete_folder(folder: str) -> None:
    """Delete everything under a folder."""
    open_store(folder).delete_folder(folder)


def unfinished(folder: str) -> Iterator[Unfinished]:
    """Yield what killed writers left under a folder: multi-part uploads, temporary files."""
    return open_store(folder).unfinished(folder)


def abandon(leftovers: Iterable[Unfinished]) -> None:
    """Delete what :func:`unfinished` found."""
    for leftover in leftovers:
        open_store(leftover.uri).abandon(leftover)
