"""S3 as a store: SeaweedFS, MinIO, AWS.

Uploads go through boto3's transfer manager. Downloads are parallel range requests of our own:
the transfer manager starts a broken range anew and at once, five times, and verifies nothing;
here a range goes on at the byte where it broke off, for as long as there is patience, and the
sha256 that the writer left in the object's metadata is computed alongside.
"""

import hashlib
import io
import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TypedDict

from boto3.s3.transfer import TransferConfig, create_transfer_manager
from botocore.exceptions import ClientError

from dkd.errors import UserError
from dkd.storage.client import (
    CONNECTIONS,
    endpoint_name,
    explain,
    give_up_seconds,
    in_our_words,
    s3_client,
    seconds,
    write_settings,
)
from dkd.storage.files import placed
from dkd.storage.retries import Patience, error_code, hurry, is_transient
from dkd.storage.store import PIECE, Damaged, Entry, NotFound, Unfinished, disk_error, file_sha256

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import GetObjectOutputTypeDef

CHUNK = 8 << 20  # bytes of an upload's part and of a download's range
DOWNLOADS = 3  # of an object whose sha256 is wrong, before it is called damaged
_KEEP = "sha256"  # the metadata entry
_PLACE = re.compile(r"(?:s3|minio)://(?P<bucket>[^/]+)(?:/(?P<key>.*))?", re.DOTALL)
_RANGE = re.compile(r"bytes (\d+)-\d+/(\d+)")


@dataclass(frozen=True)
class _Head:
    size: int
    etag: str
    sha256: str | None


class _Where(TypedDict):
    Bucket: str
    Key: str


class _Stopped(Exception):  # noqa: N818
    """Another range of the same download has failed."""


class _Replaced(Exception):  # noqa: N818
    """Another object took the place of the one that was being read."""


class S3Store:
    """Objects under ``s3://bucket/key`` or ``minio://bucket/key``."""

    def __init__(self, scheme: str) -> None:
        self._scheme = scheme

    @property
    def settle_seconds(self) -> float:
        """Some stores show an object a moment after the write: ``DKD_S3_SETTLE_SECONDS``, 5."""
        return seconds("DKD_S3_SETTLE_SECONDS", 5)

    @property
    def _client(self) -> "S3Client":
        return s3_client(self._scheme)

    def read(self, uri: str, start: int, length: int | None) -> bytes:
        if length == 0:
            return b""
        end = None if length is None else start + length
        for _ in range(DOWNLOADS):
            content = io.BytesIO()
            try:
                head = self._receive(uri, start, end, None, partial(_append, content))
            except _Replaced:
                continue
            data = content.getvalue()
            expected = head.sha256 if head and len(data) == head.size else None
            if expected in (None, hashlib.sha256(data).hexdigest()):
                return data
        raise _damaged(uri)

    def write(self, uri: str, data: bytes, *, if_absent: bool) -> bool:
        arguments: dict[str, Any] = {**_where(uri), **write_settings()}
        arguments["Metadata"] = {_KEEP: hashlib.sha256(data).hexdigest()}
        if if_absent:
            arguments["IfNoneMatch"] = "*"
        client = self._client
        with in_our_words(client, uri):
            try:
                client.put_object(**arguments, Body=data)
            except ClientError as error:
                if error_code(error.response) != "PreconditionFailed":
                    raise
                # It may be our own earlier try that came through while its answer was lost.
                retried = error.response["ResponseMetadata"].get("RetryAttempts", 0) > 0
                return retried and self.read(uri, 0, None) == data
        return True

    def size(self, uri: str) -> int | None:
        try:
            return self._head(uri).size
        except NotFound:
            return None

    def holds(self, uri: str, size: int, sha256: str) -> bool:
        try:
            head = self._head(uri)
        except NotFound:
            return False
        return head.size == size and head.sha256 == sha256

    def list_objects(self, folder: str) -> Iterator[Entry]:
        bucket, prefix = _folder(folder)
        client = self._client
        with in_our_words(client, folder):
            pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
            for page in pages:
                for found in page.get("Contents", ()):
                    uri = f"{self._scheme}://{bucket}/{found['Key']}"
                    yield Entry(uri, found["Size"], found["LastModified"])

    def upload(self, path: Path, uri: str, sha256: str | None) -> None:
        digest = sha256 or file_sha256(path)
        extra = {"Metadata": {_KEEP: digest}} | write_settings()
        where = _where(uri)
        client = self._client
        config = TransferConfig(
            multipart_threshold=CHUNK,
            multipart_chunksize=CHUNK,
            max_concurrency=CONNECTIONS,
            preferred_transfer_client="classic",
        )
        with in_our_words(client, uri):
            try:
                with create_transfer_manager(client, config) as manager, hurry():
                    manager.upload(str(path), where["Bucket"], where["Key"], extra).result()
            except ClientError as error:
                # The answer to "complete" was lost and its second try finds nothing to complete.
                lost = error_code(error.response) == "NoSuchUpload"
                if not (lost and self.holds(uri, path.stat().st_size, digest)):
                    raise

    def download(self, uri: str, path: Path, sha256: str | None) -> None:
        for _ in range(DOWNLOADS):
            head = self._head(uri)
            expected = sha256 or head.sha256
            try:
                with placed(path, durable=False) as part:
                    digest = self._receive_all(uri, head, path, part)
                    if expected not in (None, digest):
                        raise _Replaced
            except _Replaced:
                continue
            return
        raise _damaged(uri)

    def delete(self, uris: Iterable[str]) -> None:
        for uri in uris:
            client = self._client
            with in_our_words(client, uri):
                client.delete_object(**_where(uri))

    def delete_folder(self, folder: str) -> None:
        self.delete([entry.uri for entry in self.list_objects(folder)])

    def unfinished(self, folder: str) -> Iterator[Unfinished]:
        bucket, prefix = _folder(folder)
        client = self._client
        with in_our_words(client, folder):
            pages = client.get_paginator("list_multipart_uploads")
            for page in pages.paginate(Bucket=bucket, Prefix=prefix):
                for found in page.get("Uploads", ()):
                    uri = f"{self._scheme}://{bucket}/{found['Key']}"
                    yield Unfinished(uri, found["Initiated"], found["UploadId"])

    def abandon(self, unfinished: Unfinished) -> None:
        client = self._client
        with in_our_words(client, unfinished.uri):
            try:
                client.abort_multipart_upload(**_where(unfinished.uri), UploadId=unfinished.handle)
            except ClientError as error:
                if error_code(error.response) != "NoSuchUpload":  # ended meanwhile
                    raise

    def _head(self, uri: str) -> _Head:
        client = self._client
        with in_our_words(client, uri):
            try:
                answer = client.head_object(**_where(uri))
            except ClientError:
                # An answer to HEAD has no body that says why; one to GET has. If it goes well, what
                # was in the way is over: keys were rotated, the object has been written.
                client.get_object(**_where(uri), Range="bytes=0-0")
                answer = client.head_object(**_where(uri))
        return _Head(answer["ContentLength"], answer["ETag"], answer["Metadata"].get(_KEEP))

    def _receive(
        self,
        uri: str,
        start: int,
        end: int | None,
        etag: str | None,
        sink: Callable[[int, bytes], object],
    ) -> _Head | None:
        """Hand the object's bytes in [start, end) to ``sink``, going on where a body breaks off.

        Returns:
            What the object is; None if it has no byte there.
        """
        client = self._client
        patience = Patience(give_up_seconds())
        position = start
        while True:
            arguments: dict[str, Any] = {**_where(uri)}
            if position > 0 or end is not None:
                arguments["Range"] = f"bytes={position}-{'' if end is None else end - 1}"
            if etag:
                arguments["IfMatch"] = etag  # the rest must be of the same object
            with in_our_words(client, uri):
                try:
                    answer = client.get_object(**arguments)
                except ClientError as error:
                    match error_code(error.response):
                        case "InvalidRange":
                            return None
                        case "PreconditionFailed":
                            raise _Replaced from error
                    raise
            head = _head_of(uri, answer, position if "Range" in arguments else None)
            etag = head.etag
            end = head.size if end is None else min(end, head.size)
            failure: Exception | None = None
            try:
                with closing(answer["Body"]) as body:
                    while position < end and (piece := body.read(PIECE)):
                        sink(position, piece)
                        position += len(piece)
                        patience.progress()
            except Exception as error:
                if not is_transient(error):
                    raise
                failure = error
            if position >= end:
                return head
            failure = failure or ConnectionResetError("the body ended early")
            pause = patience.pause(f"reading {uri} broke off ({type(failure).__name__})")
            if pause is None:
                raise explain(failure, uri, endpoint_name(client)) from failure
            time.sleep(pause)

    def _receive_all(self, uri: str, head: _Head, path: Path, part: Path) -> str:
        """Write the whole object to ``part``, a file that is there, and return its sha256.

        The ranges arrive in parallel; what is there without a gap is hashed meanwhile.
        """
        digest = hashlib.sha256()
        stop = threading.Event()

        def sink(file: BinaryIO, position: int, piece: bytes) -> None:
            if stop.is_set():
                raise _Stopped
            try:
                file.seek(position)
                file.write(piece)
                file.flush()
            except OSError as error:
                raise disk_error(error, path) from error

        def receive(start: int, end: int) -> None:
            with part.open("r+b") as file:
                self._receive(uri, start, end, head.etag, partial(sink, file))

        ranges = [(at, min(at + CHUNK, head.size)) for at in range(0, head.size, CHUNK)]
        workers = min(CONNECTIONS, max(1, len(ranges)))
        # No buffer: it would hold what lay there before the next range arrived.
        with part.open("rb", buffering=0) as arrived, ThreadPoolExecutor(workers) as pool:
            waiting = [pool.submit(receive, *each) for each in ranges]
            try:
                with hurry():
                    for (start, end), received in zip(ranges, waiting, strict=True):
                        received.result()
                        arrived.seek(start)
                        for at in range(start, end, PIECE):
                            digest.update(arrived.read(min(PIECE, end - at)))
            finally:
                stop.set()
                pool.shutdown(wait=False, cancel_futures=True)
        return digest.hexdigest()


def _append(content: io.BytesIO, _: int, piece: bytes) -> None:
    content.write(piece)


def _where(uri: str) -> _Where:
    """Bucket and key of an object's URI."""
    parts = _PLACE.fullmatch(uri)
    if parts is None or not parts["key"]:
        raise UserError(f"{uri}: name an object as s3://bucket/folder/name")
    return {"Bucket": parts["bucket"], "Key": parts["key"]}


def _folder(uri: str) -> tuple[str, str]:
    """Bucket and prefix of a folder's URI; the prefix is empty or ends with a slash."""
    parts = _PLACE.fullmatch(uri)
    if parts is None:
        raise UserError(f"{uri}: name a folder as s3://bucket/folder")
    key = (parts["key"] or "").rstrip("/")
    return parts["bucket"], f"{key}/" if key else ""


def _head_of(uri: str, answer: "GetObjectOutputTypeDef", asked_from: int | None) -> _Head:
    """What an answer says of the object. ``asked_from`` is the first byte of the range asked for.

    Raises:
        UserError: the server sent another range.
    """
    size = answer["ContentLength"]
    if asked_from is not None:
        sent = _RANGE.fullmatch(answer.get("ContentRange", ""))
        if sent is None or int(sent[1]) != asked_from:
            raise UserError(f"{uri}: the server answers a range request with another range")
        size = int(sent[2])
    return _Head(size, answer["ETag"], answer["Metadata"].get(_KEEP))


def _damaged(uri: str) -> Damaged:
    return Damaged(f"{uri}: altered since it was written (its sha256 differs, {DOWNLOADS} times)")
