import json
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dkd import storage
from dkd.errors import NewerFormat, UserError
from dkd.storage import artifacts
from dkd.storage.artifacts import Manifest, Part

PARTS: dict[str, Path | bytes] = {"weights.bin": b"weights" * 99, "pictures/1.png": b"picture"}


def publish(root: str, **changes: Path | bytes) -> Manifest:
    uri = storage.join(root, "checkpoints", "0123")
    return artifacts.publish(uri, PARTS | changes, kind="checkpoint", metadata={"miou": 0.5})


def test_what_is_published_is_fetched(root: str, tmp_path: Path) -> None:
    large = tmp_path / "large"
    large.write_bytes(os.urandom(3 << 20))
    published = publish(root, large=large)
    found = artifacts.load(published.uri)
    assert found == published == artifacts.find(published.uri)
    assert (found.kind, found.metadata) == ("checkpoint", {"miou": 0.5})
    assert found.size == sum(part.size for part in found.parts.values())
    assert found.parts["large"].sha256 == sha256(large.read_bytes()).hexdigest()

    assert artifacts.fetch(found.uri, tmp_path / "out") == found
    for name, content in (PARTS | {"large": large}).items():
        expected = content.read_bytes() if isinstance(content, Path) else content
        assert (tmp_path / "out" / name).read_bytes() == expected
        assert artifacts.read_part(found, name) == expected
        assert storage.read_bytes(found.part_uri(name)) == expected

    artifacts.fetch(found.uri, tmp_path / "some", ["weights.bin"])
    assert [path.name for path in (tmp_path / "some").iterdir()] == ["weights.bin"]
    with pytest.raises(storage.NotFound, match="has no part nope, only"):
        artifacts.fetch(found.uri, tmp_path / "some", ["nope"])


def test_before_the_manifest_there_is_no_artifact(root: str, tmp_path: Path) -> None:
    """What a writer that was killed before the end leaves is no artifact, and can be finished."""
    manifest = publish(root)
    storage.delete([storage.join(manifest.uri, artifacts.MANIFEST)])
    assert artifacts.find(manifest.uri) is None
    with pytest.raises(storage.NotFound, match="no whole artifact"):
        artifacts.fetch(manifest.uri, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert publish(root).digest == manifest.digest


def test_a_failed_publish_is_invisible(root: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="missing"):
        publish(root, other=tmp_path / "missing")
    assert artifacts.find(storage.join(root, "checkpoints", "0123")) is None
    with pytest.raises(ValueError, match="JSON"):
        artifacts.publish(root, PARTS, kind="checkpoint", metadata={"miou": float("nan")})
    assert list(storage.list_objects(root)) == []


def test_two_writers_never_mix(root: str, tmp_path: Path) -> None:
    uri, writers = storage.join(root, "artifact"), 4
    barrier = threading.Barrier(writers)

    def write(number: int) -> Manifest:
        parts = {name: f"{name} of {number}".encode() * 1000 for name in ("a", "b", "c")}
        barrier.wait()
        return artifacts.publish(uri, parts, kind="test", metadata={"writer": number})

    with ThreadPoolExecutor(writers) as pool:
        answers = list(pool.map(write, range(writers)))
    winner = artifacts.load(uri)
    assert answers == [winner] * writers
    out = tmp_path / "out"
    artifacts.fetch(uri, out)
    number = winner.metadata["writer"]
    assert {path.name: path.read_bytes() for path in out.iterdir()} == {
        name: f"{name} of {number}".encode() * 1000 for name in ("a", "b", "c")
    }
    objects = {entry.uri for entry in storage.list_objects(uri)}
    expected = {winner.part_uri(name) for name in winner.parts}
    assert objects == expected | {storage.join(uri, artifacts.MANIFEST)}  # the losers' are gone


def begin_and_die(uri: str) -> None:
    """What a writer leaves that is killed while it uploads a part."""
    part = storage.join(uri, "parts", "0" * 64, "weights")
    if storage.is_local(uri):
        partial = storage.local_path(part).parent / ".weights.0123456789ab.partial"
        partial.parent.mkdir(parents=True)
        partial.write_bytes(b"ha")
    else:
        client = storage.open_store(uri)._client  # type: ignore[attr-defined]
        bucket, _, key = part.split("://")[1].partition("/")
        client.create_multipart_upload(Bucket=bucket, Key=key)


def test_what_killed_writers_left_is_cleared_by_the_one_that_succeeds(root: str) -> None:
    uri, other = storage.join(root, "artifact"), storage.join(root, "other")
    begin_and_die(uri)
    begin_and_die(other)
    artifacts.publish(uri, PARTS, kind="test", metadata={})
    assert list(storage.unfinished(uri)) == []
    assert len(list(storage.unfinished(other))) == 1


def test_a_writer_whose_upload_was_cleared_gets_the_winners_artifact(
    root: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = storage.join(root, "artifact")
    store = artifacts.store_part

    def slow(uri: str, name: str, content: Path | bytes) -> Part:
        if name == "late":
            with monkeypatch.context() as others:
                others.setattr(artifacts, "store_part", store)
                artifacts.publish(uri, PARTS, kind="test", metadata={})
            raise UserError("the upload is gone")
        return store(uri, name, content)

    monkeypatch.setattr(artifacts, "store_part", slow)
    manifest = artifacts.publish(uri, {"early": b"1", "late": b"2"}, kind="test", metadata={})
    assert manifest == artifacts.load(uri)
    assert set(manifest.parts) == set(PARTS)
    assert not [entry for entry in storage.list_objects(uri) if "early" in entry.uri]


def test_a_later_writer_changes_nothing(root: str) -> None:
    first = publish(root)
    before = {entry.uri: entry for entry in storage.list_objects(first.uri)}
    assert publish(root, **{"weights.bin": b"other"}) == first
    assert {entry.uri: entry for entry in storage.list_objects(first.uri)} == before


def damage(manifest: Manifest, name: str, how: str) -> None:
    """Change a part behind the back of those who wrote it."""
    uri = manifest.part_uri(name)
    content = storage.read_bytes(uri)
    match how:
        case "missing":
            storage.delete([uri])
        case "truncated":
            storage.write_bytes(uri, content[:-1])
        case "longer":
            storage.write_bytes(uri, content + b"!")
        case "altered":
            storage.write_bytes(uri, content[:-1] + bytes([content[-1] ^ 1]))


@pytest.mark.parametrize(
    ("how", "told"),
    [
        ("missing", "part weights.bin is missing"),
        ("truncated", r"part weights.bin is damaged \(692 bytes instead of 693\)"),
        ("longer", r"part weights.bin is damaged \(694 bytes instead of 693\)"),
        ("altered", r"part weights.bin is damaged \(altered\)"),
    ],
)
def test_a_damaged_part_is_named(root: str, tmp_path: Path, how: str, told: str) -> None:
    manifest = publish(root)
    damage(manifest, "weights.bin", how)
    for use in (
        lambda: artifacts.read_part(manifest, "weights.bin"),
        lambda: artifacts.fetch(manifest.uri, tmp_path / "out"),
        lambda: artifacts.fetch_cached(manifest.uri, tmp_path / "cache"),
    ):
        with pytest.raises(storage.Damaged, match=told) as error:
            use()
        assert manifest.uri in str(error.value)
        assert "\n" not in str(error.value)
    assert not (tmp_path / "out" / "weights.bin").exists()
    assert not (tmp_path / "cache" / manifest.digest).exists()
    assert artifacts.read_part(manifest, "pictures/1.png") == b"picture"


def test_removing(root: str) -> None:
    manifest = publish(root)
    artifacts.remove(manifest.uri)
    assert artifacts.find(manifest.uri) is None
    assert list(storage.list_objects(root)) == []


DAMAGES: list[Any] = [
    lambda document: document.pop("parts"),
    lambda document: document.update(format=0),
    lambda document: document.update(format="1"),
    lambda document: document.update(kind=None),
    lambda document: document.update(kind="memory"),
    lambda document: document.update(parts=[]),
    lambda document: document["parts"].update({"../up": document["parts"].pop("weights.bin")}),
    lambda document: document["parts"]["weights.bin"].update(object="../../other/object"),
    lambda document: document["parts"]["weights.bin"].update(sha256="0" * 64),
    lambda document: document["parts"]["weights.bin"].update(size=-1),
    lambda document: document["parts"]["weights.bin"].update(size="693"),
    lambda document: document["parts"]["weights.bin"].update(url="http://elsewhere"),
]


@pytest.mark.parametrize("change", DAMAGES)
def test_a_manifest_that_was_tampered_with_is_refused(tmp_path: Path, change: Any) -> None:
    manifest = publish(str(tmp_path))
    path = Path(manifest.uri, artifacts.MANIFEST)
    document = json.loads(path.read_bytes())
    change(document)
    path.write_text(json.dumps(document))
    with pytest.raises(storage.Damaged, match=str(path)):
        artifacts.load(manifest.uri)


def test_a_newer_format_is_refused_whatever_else_it_says(tmp_path: Path) -> None:
    """What is raised for memories alone goes on being read of checkpoints."""
    manifest = publish(str(tmp_path))
    path = Path(manifest.uri, artifacts.MANIFEST)
    later = {"format": 7, "kind": "checkpoint", "parts": "in another way"}
    path.write_text(json.dumps(later))
    with pytest.raises(NewerFormat) as error:
        artifacts.load(manifest.uri)
    assert str(error.value) == (
        f"{path}: has format 7, written by a newer version of dkd; this one reads up to format 1: "
        "use the newer version"
    )


def test_every_format_up_to_todays_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = publish(str(tmp_path / "a"))
    monkeypatch.setattr(artifacts, "KIND_FORMATS", {"checkpoint": 2})
    after = publish(str(tmp_path / "b"))
    memory = artifacts.publish(str(tmp_path / "m"), PARTS, kind="memory", metadata={})
    read = [artifacts.load(each.uri).format for each in (before, after, memory)]
    assert read == [1, 2, 1]
    assert before.digest == after.digest  # what is in the parts, alone
    monkeypatch.undo()
    with pytest.raises(NewerFormat, match="has format 2"):
        artifacts.load(after.uri)
    assert artifacts.load(memory.uri) == memory


@given(content=st.binary(max_size=200))
def test_anything_may_lie_at_a_manifests_place(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    folder = tmp_path_factory.getbasetemp()
    (folder / artifacts.MANIFEST).write_bytes(content)
    with pytest.raises(storage.Damaged):
        artifacts.load(str(folder))


@pytest.mark.parametrize("called", ["a checkpoint", "an evaluation", "weights"])
def test_what_an_artifact_is_called(called: str) -> None:
    assert artifacts.Manifest("x", called.split()[-1], {}).called == called


def test_deep_nesting_and_size_of_a_manifest_are_bounded(tmp_path: Path) -> None:
    for content in (b"[" * 1_000_000, b" " * (artifacts.LARGEST_MANIFEST + 1)):
        (tmp_path / artifacts.MANIFEST).write_bytes(content)
        with pytest.raises(storage.Damaged):
            artifacts.load(str(tmp_path))


@pytest.mark.parametrize(
    "name", ["", "..", "../a", "a/../b", "/a", "a//b", "a/", ".hidden", "a\\b", "a b", "a\n", "ä"]
)
def test_unsafe_names_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match="not a safe name"):
        artifacts.publish(str(tmp_path / "x"), {name: b""}, kind="test", metadata={})
    assert not (tmp_path / "x").exists()


def test_absurd_sizes_are_not_read_into_memory(tmp_path: Path) -> None:
    part = Part("0" * 64, artifacts.LARGEST_IN_MEMORY + 1, "parts/x")
    with pytest.raises(UserError, match="too many to read at once"):
        artifacts.read_part(Manifest(str(tmp_path), "test", {"x": part}), "x")


names = st.from_regex(r"[a-z]{1,4}(/[a-z0-9.]{1,4})?", fullmatch=True)


@given(st.dictionaries(names, st.binary(max_size=8), max_size=4), st.text(max_size=4))
def test_a_digest_tells_contents_apart(parts: dict[str, bytes], kind: str) -> None:
    def manifest(kind: str, contents: dict[str, bytes], **rest: Any) -> Manifest:
        described = {n: Part(sha256(c).hexdigest(), len(c), "x") for n, c in contents.items()}
        return Manifest("/", kind, described, **rest)

    digest = manifest(kind, parts).digest
    turned = dict(reversed(parts.items()))
    assert digest == manifest(kind, turned, metadata={"a": 1}, created="today").digest
    assert digest != manifest(kind + "x", parts).digest
    assert digest != manifest(kind, parts | {"new": b""}).digest
    for name in parts:
        assert digest != manifest(kind, parts | {name: b"other than before"}).digest


CACHED = """
import sys
from pathlib import Path
from dkd.storage import artifacts
print("ready", flush=True)
sys.stdin.readline()
print(artifacts.fetch_cached(sys.argv[1], Path(sys.argv[2]))[1])
"""


def test_many_processes_download_once(s3_root: str, tmp_path: Path) -> None:
    """Each file of the cache is put in place once: all processes name the same inodes."""
    large = tmp_path / "large"
    large.write_bytes(os.urandom(8 << 20))
    manifest = publish(s3_root, large=large)
    command = [sys.executable, "-c", CACHED, manifest.uri, str(tmp_path / "cache")]
    processes = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    answers = [process.communicate("go\n")[0] for process in processes]
    folder = tmp_path / "cache" / manifest.digest
    assert answers == [f"{folder}\n"] * 4
    assert (folder / "large").read_bytes() == large.read_bytes()
    place = (folder / "large").stat()
    assert artifacts.fetch_cached(manifest.uri, tmp_path / "cache") == (manifest, folder)
    assert (folder / "large").stat() == place
    assert [p.name for p in folder.parent.iterdir() if p.suffix != ".lock"] == [manifest.digest]


def test_a_cache_that_was_cut_short_is_made_whole(root: str, tmp_path: Path) -> None:
    """As after a kill in the middle: whole parts stay, halves go, the rest is fetched."""
    manifest = publish(root)
    cache = tmp_path / "cache"
    arriving = cache / f".{manifest.digest}.arriving"
    artifacts.fetch(manifest.uri, arriving, ["weights.bin"])
    kept = (arriving / "weights.bin").stat().st_ino
    (arriving / ".weights.bin.0123456789ab.partial").write_bytes(b"wei")
    _, folder = artifacts.fetch_cached(manifest.uri, cache)
    assert (folder / "weights.bin").stat().st_ino == kept
    assert sorted(path.name for path in folder.rglob("*") if path.is_file()) == [
        "1.png",
        "weights.bin",
    ]
    (folder / "weights.bin").write_bytes(b"short")
    artifacts.fetch_cached(manifest.uri, cache)
    assert (folder / "weights.bin").read_bytes() == PARTS["weights.bin"]


def test_a_killed_download_is_taken_over(s3_root: str, tmp_path: Path) -> None:
    """The lock of a process that was killed is free, and its halves are cleared away."""
    large = tmp_path / "large"
    large.write_bytes(os.urandom(48 << 20))
    manifest = publish(s3_root, large=large)
    cache = tmp_path / "cache"
    command = [sys.executable, "-c", CACHED, manifest.uri, str(cache)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None
    process.stdin.write("go\n")
    process.stdin.flush()
    arriving = cache / f".{manifest.digest}.arriving"
    while not any(arriving.glob(".large.*.partial")) and process.poll() is None:
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    _, folder = artifacts.fetch_cached(manifest.uri, cache)
    assert storage.file_sha256(folder / "large") == storage.file_sha256(large)
    assert not list(cache.rglob("*.partial"))
