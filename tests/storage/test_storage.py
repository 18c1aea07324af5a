import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dkd import storage
from dkd.errors import UserError
from dkd.storage.s3 import CHUNK, S3Store
from dkd.worker import doctor

CONTENT = bytes(range(256)) * 40


def test_what_is_written_is_read(root: str) -> None:
    uri = storage.join(root, "folder", "name with ümläut +%.bin")
    assert storage.write_bytes(uri, CONTENT)
    assert storage.read_bytes(uri) == CONTENT
    assert storage.exists(uri)
    assert storage.size(uri) == len(CONTENT)
    assert storage.write_bytes(uri, b"")
    assert storage.read_bytes(uri) == b""
    assert storage.size(uri) == 0


def test_what_is_absent_is_said_so(root: str) -> None:
    uri = storage.join(root, "nothing")
    assert not storage.exists(uri)
    assert storage.size(uri) is None
    for read in (storage.read_bytes, lambda uri: storage.read_range(uri, 0, 1)):
        with pytest.raises(storage.NotFound, match="nothing"):
            read(uri)
    with pytest.raises(storage.NotFound, match="nothing"):
        storage.download(uri, Path(os.devnull).parent / "shm" / "never")
    assert not Path("/dev/shm/never").exists()


def test_a_folder_is_no_object(root: str) -> None:
    storage.write_bytes(storage.join(root, "a", "b"), b"1")
    assert not storage.exists(storage.join(root, "a"))


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(start=st.integers(0, 70), length=st.integers(0, 80))
def test_ranges_are_slices(root: str, start: int, length: int) -> None:
    uri = storage.join(root, "object")
    content = bytes(range(64))
    if not storage.exists(uri):
        storage.write_bytes(uri, content)
    assert storage.read_range(uri, start, length) == content[start : start + length]


def test_of_several_first_writers_one_wins(root: str) -> None:
    uri = storage.join(root, "once")
    barrier = threading.Barrier(6)

    def write(number: int) -> bool:
        barrier.wait()
        return storage.write_bytes(uri, f"writer {number}".encode(), if_absent=True)

    with ThreadPoolExecutor(6) as pool:
        won = list(pool.map(write, range(6)))
    assert won.count(True) == 1
    assert storage.read_bytes(uri) == f"writer {won.index(True)}".encode()
    assert not storage.write_bytes(uri, b"late", if_absent=True)


def test_a_store_that_keeps_conditions_passes_and_nothing_is_left(root: str) -> None:
    storage.require_conditional_writes(root)
    assert not list(storage.list_objects(root))


def test_a_store_that_ignores_conditions_is_refused(
    s3_root: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As some do: they answer 200 whether the object is there or not."""
    write = S3Store.write
    monkeypatch.setattr(S3Store, "write", lambda *given, if_absent: write(*given, if_absent=False))
    with pytest.raises(UserError, match=r"overwrites .* \(it ignores If-None-Match\)"):
        storage.require_conditional_writes(s3_root)
    assert not list(storage.list_objects(s3_root))
    finding = doctor._store(s3_root)
    assert finding.state == "bad"
    assert "If-None-Match" in finding.text


def test_listing_is_of_a_folder(root: str) -> None:
    names = ["a/1", "a/b/2", "a/ü 3", "ab/4", "c"]
    for name in names:
        storage.write_bytes(storage.join(root, name), name.encode())
    listed = list(storage.list_objects(root))
    assert [storage.read_bytes(entry.uri).decode() for entry in listed] == sorted(names)
    inner = list(storage.list_objects(storage.join(root, "a")))
    assert [storage.read_bytes(entry.uri).decode() for entry in inner] == sorted(names[:3])
    assert list(storage.list_objects(storage.join(root, "a") + "/")) == inner
    assert all(entry.size == storage.size(entry.uri) for entry in listed)
    assert all(entry.modified.tzinfo for entry in listed)
    assert list(storage.list_objects(storage.join(root, "nowhere"))) == []


def test_deleting(root: str) -> None:
    uris = [storage.join(root, name) for name in ("a/1", "a/2", "b")]
    for uri in uris:
        storage.write_bytes(uri, b"1")
    storage.delete([uris[0], storage.join(root, "never was")])
    assert [storage.exists(uri) for uri in uris] == [False, True, True]
    storage.delete_folder(storage.join(root, "a"))
    storage.delete_folder(storage.join(root, "a"))
    assert [entry.uri for entry in storage.list_objects(root)] == [uris[2]]


@pytest.mark.parametrize("size", [0, 1, CHUNK, CHUNK + 1, 2 * CHUNK + 12345])
def test_files_there_and_back(root: str, tmp_path: Path, size: int) -> None:
    source, target = tmp_path / "source", tmp_path / "new" / "target"
    source.write_bytes(os.urandom(size))
    uri = storage.join(root, "big")
    storage.upload(source, uri)
    storage.download(uri, target)
    assert storage.file_sha256(target) == storage.file_sha256(source)
    storage.download(uri, target, sha256=storage.file_sha256(source))
    assert [path.name for path in target.parent.iterdir()] == ["target"]
    assert list(storage.unfinished(root)) == []


def test_a_download_with_another_digest_changes_nothing(root: str, tmp_path: Path) -> None:
    uri, target = storage.join(root, "object"), tmp_path / "new" / "target"
    storage.write_bytes(uri, b"what is there")
    target.parent.mkdir()
    target.write_bytes(b"before")
    with pytest.raises(storage.Damaged, match="object"):
        storage.download(uri, target, sha256="0" * 64)
    assert target.read_bytes() == b"before"
    assert [path.name for path in target.parent.iterdir()] == ["target"]


def test_an_upload_of_a_missing_file_names_it(root: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="not-here"):
        storage.upload(tmp_path / "not-here", storage.join(root, "x"))
    assert not storage.exists(storage.join(root, "x"))


def test_leftovers_of_a_killed_writer_are_found_and_removed(root: str, tmp_path: Path) -> None:
    uri = storage.join(root, "folder", "half")
    if storage.is_local(uri):
        partial = storage.local_path(uri).parent / ".half.0123456789ab.partial"
        partial.parent.mkdir(parents=True)
        partial.write_bytes(b"ha")
    else:
        client = storage.open_store(uri)._client  # type: ignore[attr-defined]
        bucket, _, key = uri.split("://")[1].partition("/")
        client.create_multipart_upload(Bucket=bucket, Key=key)
    found = list(storage.unfinished(root))
    assert [leftover.uri for leftover in found] == [uri]
    assert list(storage.list_objects(root)) == []
    assert list(storage.unfinished(storage.join(root, "other"))) == []
    storage.abandon(found)
    assert list(storage.unfinished(root)) == []
