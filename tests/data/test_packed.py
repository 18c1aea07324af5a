import io
import json
import random
import subprocess
import sys
import tarfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from dkd import storage
from dkd.data import index, splits
from dkd.data import open as opening
from dkd.data import packed as packing
from dkd.data.index import Dataset
from dkd.data.records import Record
from dkd.errors import UserError
from dkd.scenario.data import Data
from dkd.scenario.tasks import Task
from dkd.storage import artifacts


@pytest.fixture(scope="module")
def dataset(voc: Data) -> Dataset:
    return index.build(voc)


@pytest.fixture
def packed(dataset: Dataset, tmp_path: Path) -> str:
    uri = str(tmp_path / "artifact")
    packing.pack(dataset, uri, tmp_path / "work", shard_bytes=20_000)
    assert not any((tmp_path / "work").iterdir())
    return uri


def files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_a_packed_data_set_is_the_same_data_set(dataset: Dataset, packed: str) -> None:
    opened, manifest = packing.open_dataset(packed)
    assert opened.digest == dataset.digest
    assert opened.splits == dataset.splits
    assert (opened.format, opened.root) == ("packed", packed)
    assert manifest.metadata["images"] == {"train": 60, "validation": 25}
    assert opening.dataset(Data(format="packed", root=packed)) == opened


def test_shards_are_plain_tar_and_always_the_same(
    dataset: Dataset, packed: str, tmp_path: Path
) -> None:
    manifest = artifacts.load(packed)
    shards = [name for name in manifest.parts if name.endswith(".tar")]
    assert len(shards) > 2
    found = {}
    for name in shards:
        with tarfile.open(storage.local_path(manifest.part_uri(name))) as archive:
            for member in archive:
                found[member.name] = archive.extractfile(member).read()  # type: ignore[union-attr]
    root = Path(dataset.root)
    everything = [r for records in dataset.splits.values() for r in records]
    assert found == {
        path: (root / path).read_bytes() for r in everything for path in (r.image, r.mask)
    }
    again = packing.pack(dataset, str(tmp_path / "again"), tmp_path / "work", shard_bytes=20_000)
    assert again.digest == manifest.digest


def test_packing_twice_writes_once(dataset: Dataset, packed: str, tmp_path: Path) -> None:
    before = {p: p.stat().st_mtime_ns for p in Path(packed).rglob("*")}
    seen: list[int] = []
    packing.pack(dataset, packed, tmp_path / "work", progress=lambda done, _: seen.append(done))
    assert {p: p.stat().st_mtime_ns for p in Path(packed).rglob("*")} == before
    assert not seen


def test_only_the_wanted_images_arrive(
    dataset: Dataset, packed: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened, manifest = packing.open_dataset(packed)
    task = Task.of([[1, 2, 3, 4], [5]], opened.classes)
    records = splits.training(opened, task, "overlap", 1)
    assert 5 < len(records) < 40
    read: list[int] = []
    whole = storage.read_range
    monkeypatch.setattr(
        storage, "read_range", lambda uri, at, n: read.append(n) or whole(uri, at, n)
    )
    folder = packing.materialise(opened, manifest, records, tmp_path / "cache")
    root = Path(dataset.root)
    wanted = {path: (root / path).read_bytes() for r in records for path in (r.image, r.mask)}
    assert files(folder) == wanted
    # Nothing else travelled: beside the index's parts, only tar headers and padding.
    read_of_shards = [n for n in read if n < manifest.size]
    index_parts = sum(manifest.parts[n].size for n in (packing.MEMBERS,))
    content = sum(len(data) for data in wanted.values())
    assert sum(read_of_shards) - index_parts <= content + 4 * 512 * len(records)
    assert len(read_of_shards) < len(records) + 4


def test_what_is_there_is_not_fetched_again(packed: str, tmp_path: Path) -> None:
    opened, manifest = packing.open_dataset(packed)
    folder = packing.materialise(opened, manifest, opened.train[:10], tmp_path / "cache")
    before = {p: p.stat().st_mtime_ns for p in folder.rglob("*.*")}
    for name in manifest.parts:
        if name.endswith(".tar"):
            storage.local_path(manifest.part_uri(name)).unlink()
    packing.materialise(opened, manifest, opened.train[:10], tmp_path / "cache")
    assert {p: p.stat().st_mtime_ns for p in folder.rglob("*.*")} == before
    with pytest.raises(UserError):
        packing.materialise(opened, manifest, opened.train, tmp_path / "cache")


def test_random_subsets_at_once(dataset: Dataset, packed: str, tmp_path: Path) -> None:
    opened, manifest = packing.open_dataset(packed)
    everything = [*opened.train, *opened.validation]
    chosen = [random.Random(k).sample(everything, 30) for k in range(6)]
    with ThreadPoolExecutor(6) as pool:
        folders = list(
            pool.map(lambda r: packing.materialise(opened, manifest, r, tmp_path / "c"), chosen)
        )
    assert len(set(folders)) == 1
    for records in chosen:
        for path in (p for r in records for p in (r.image, r.mask)):
            assert (folders[0] / path).read_bytes() == (Path(dataset.root) / path).read_bytes()


def test_a_damaged_shard_is_told_and_leaves_nothing(packed: str, tmp_path: Path) -> None:
    opened, manifest = packing.open_dataset(packed)
    for name in manifest.parts:
        if name.endswith(".tar"):
            path = storage.local_path(manifest.part_uri(name))
            path.write_bytes(bytes(path.stat().st_size))
    with pytest.raises(storage.Damaged, match=r"shard-.*damaged"):
        packing.materialise(opened, manifest, opened.train, tmp_path / "cache")
    assert not list((tmp_path / "cache").rglob("*.png"))


def test_a_file_that_changed_since_it_was_indexed(
    voc_maker: Callable[..., Path], tmp_path: Path
) -> None:
    root = voc_maker(tmp_path / "voc", 4, 2)
    dataset = index.build(Data(format="voc", root=str(root)))
    (root / dataset.train[2].image).write_bytes(b"other")
    with pytest.raises(UserError, match=r"2007_000002\.jpg: image or mask changed"):
        packing.pack(dataset, str(tmp_path / "out"), tmp_path / "work")
    assert not (tmp_path / "out").exists()
    assert not any((tmp_path / "work").iterdir())


def test_names_as_long_as_a_file_system_takes(folder: Path, tmp_path: Path) -> None:
    name = "ä" * 125 + ".png"  # 254 bytes
    for kind in ("images", "masks"):
        (folder / kind / "train/0.png").rename(folder / kind / "train" / name)
    dataset = index.build(Data(format="folder", root=str(folder)))
    packing.pack(dataset, str(tmp_path / "packed"), tmp_path / "work")
    opened, manifest = packing.open_dataset(str(tmp_path / "packed"))
    arrived = packing.materialise(opened, manifest, opened.train, tmp_path / "cache")
    assert (arrived / "masks/train" / name).is_file()


def test_an_index_alone(dataset: Dataset, tmp_path: Path) -> None:
    uri = str(tmp_path / "index")
    packing.publish_index(dataset, uri)
    opened, manifest = packing.open_dataset(uri)
    assert opened == dataset
    folder = packing.materialise(opened, manifest, opened.train, tmp_path / "cache")
    assert folder == Path(dataset.root)
    assert list(manifest.parts) == [packing.INDEX]


def test_a_folder_of_another_machine(voc_maker: Callable[..., Path], tmp_path: Path) -> None:
    root = voc_maker(tmp_path / "voc", 4, 2)
    packing.publish_index(index.build(Data(format="voc", root=str(root))), str(tmp_path / "i"))
    root.rename(tmp_path / "gone")
    opened, manifest = packing.open_dataset(str(tmp_path / "i"))
    with pytest.raises(UserError, match=r"not on this machine; pack"):
        packing.materialise(opened, manifest, opened.train, tmp_path / "cache")


def test_places_that_are_taken_or_empty(
    dataset: Dataset, packed: str, ade20k: Data, tmp_path: Path
) -> None:
    other = index.build(ade20k)
    with pytest.raises(UserError, match="another dataset is already there"):
        packing.pack(other, packed, tmp_path / "work")
    artifacts.publish(str(tmp_path / "x"), {"a": b"b"}, kind="checkpoint", metadata={})
    with pytest.raises(UserError, match="is a checkpoint, not a data set"):
        packing.open_dataset(str(tmp_path / "x"))
    with pytest.raises(storage.NotFound):
        packing.open_dataset(str(tmp_path / "nothing"))
    opened, _ = packing.open_dataset(packed)
    with pytest.raises(UserError, match="already packed"):
        packing.pack(opened, str(tmp_path / "y"), tmp_path / "work")


def test_the_light_half_imports_no_torch() -> None:
    code = (
        "import sys, json; from dkd.data import index, splits, labels, packed, made, formats;"
        "print(json.dumps([m for m in ('torch', 'sklearn', 'boto3') if m in sys.modules]))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert json.loads(out.stdout) == []


KILLED = """
import os, sys
from pathlib import Path
from dkd.data import index, packed
from dkd.scenario.data import Data
root, uri, work = sys.argv[1:]

def progress(done, count):
    if done == 40:
        print("here", flush=True)
        sys.stdin.read()

packed.pack(index.build(Data(format="voc", root=root)), uri, Path(work), 20_000, progress)
"""


def test_packing_goes_on_where_it_was_killed(
    voc: Data, dataset: Dataset, packed: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri, work = str(tmp_path / "killed"), tmp_path / "killed-work"
    command = [sys.executable, "-c", KILLED, voc.root, uri, str(work)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"here\n"
        process.kill()
    assert artifacts.find(uri) is None
    stored = {part.object for _, part in artifacts.stored_parts(uri)}
    assert stored
    read: list[Record] = []
    whole = packing.contents.read
    monkeypatch.setattr(
        packing.contents, "read", lambda root, record: read.append(record) or whole(root, record)
    )
    manifest = packing.pack(dataset, uri, work, shard_bytes=20_000)
    assert 45 <= len(read) < 85  # the shard that was being written is written again
    assert manifest.digest == artifacts.load(packed).digest
    assert stored < {part.object for part in manifest.parts.values()}
    assert not any(work.iterdir())  # nor is anything left of the one that was killed
    assert files(Path(uri)).keys() == files(Path(packed)).keys()


def test_shards_of_another_data_set_are_not_taken(
    voc: Data, dataset: Dataset, packed: str, tmp_path: Path
) -> None:
    uri = str(tmp_path / "other")
    renamed = replace(dataset, name="another")

    def stop(done: int, _: int) -> None:
        if done == 40:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        packing.pack(renamed, uri, tmp_path / "work", 20_000, stop)
    assert artifacts.stored_parts(uri)
    packing.pack(dataset, uri, tmp_path / "work", shard_bytes=20_000)
    assert files(Path(uri)).keys() == files(Path(packed)).keys()


def test_one_shard_at_a_time_takes_room(dataset: Dataset, tmp_path: Path) -> None:
    work, most = tmp_path / "work", 0

    def look(_done: int, _all: int) -> None:
        nonlocal most
        most = max(most, sum(len(data) for data in files(work).values()))

    manifest = packing.pack(dataset, str(tmp_path / "out"), work, 20_000, look)
    largest = max(part.size for name, part in manifest.parts.items() if name.endswith(".tar"))
    assert 0 < most <= largest < manifest.size / 2


def test_a_shard_is_byte_by_byte_what_tarfile_writes(packed: str) -> None:
    shards = [part for name, part in artifacts.stored_parts(packed) if name.endswith(".tar")]
    for part in shards:
        content = storage.read_bytes(storage.join(packed, part.object))
        made = io.BytesIO()
        with (
            tarfile.open(fileobj=io.BytesIO(content)) as given,
            tarfile.open(fileobj=made, mode="w", format=tarfile.PAX_FORMAT) as archive,
        ):
            for member in given:
                plain = tarfile.TarInfo(member.name)
                plain.size = member.size
                archive.addfile(plain, given.extractfile(member))
        assert made.getvalue() == content
