import gzip
import hashlib
import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dkd.data import index
from dkd.data.index import Dataset
from dkd.errors import UserError
from dkd.scenario.schema import Data


def brute_force(root: Path, image: str, mask: str) -> tuple[int, int, tuple[int, ...], str]:
    labels = np.array(Image.open(root / mask))
    content = (root / image).read_bytes() + (root / mask).read_bytes()
    values = tuple(int(v) for v in np.unique(labels) if v not in (0, 255))
    return *labels.shape, values, hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize("name", ["voc", "ade20k"])
def test_every_record_is_what_a_plain_look_at_its_files_says(
    name: str, request: pytest.FixtureRequest
) -> None:
    data = request.getfixturevalue(name)
    dataset = index.build(data)
    root = Path(data.root)
    assert len(dataset.train) + len(dataset.validation) == (85 if name == "voc" else 70)
    for records in dataset.splits.values():
        for r in records:
            assert (r.height, r.width, r.classes, r.digest) == brute_force(root, r.image, r.mask)


def test_voc_takes_its_masks_from_the_right_folders(voc: Data) -> None:
    dataset = index.build(voc)
    assert {Path(r.mask).parent.name for r in dataset.train} == {"SegmentationClassAug"}
    assert {Path(r.mask).parent.name for r in dataset.validation} == {"SegmentationClass"}
    assert dataset.train[0].id == "2007_000000"
    assert len(dataset.classes) == 20
    assert not dataset.future_is_void


def test_ade20k_has_its_150_classes_and_counts_the_future_as_void(ade20k: Data) -> None:
    dataset = index.build(ade20k)
    assert len(set(dataset.classes.values())) == 150
    known = {1: "wall", 13: "person", 45: "chest of drawers", 101: "poster", 150: "flag"}
    assert known.items() <= dataset.classes.items()
    assert dataset.future_is_void


def test_a_plain_folder_names_its_classes_and_colours(folder: Path) -> None:
    dataset = index.build(Data(format="folder", root=str(folder)))
    assert dataset.classes == {1: "cat", 7: "dog"}
    assert dataset.palette[7] == (10, 200, 30)
    assert dataset.name == "pets"
    assert [r.classes for r in dataset.train] == [(7,), (1, 7)] * 2


def test_real_photographs(shared: Path) -> None:
    dataset = index.build(Data(format="voc", root=str(shared / "voc_subset")))
    assert (len(dataset.train), len(dataset.validation)) == (558, 194)


def test_json_brings_the_same_data_set_back(voc: Data) -> None:
    dataset = index.build(voc)
    again = Dataset.from_json(dataset.to_json())
    assert again == dataset
    assert again.digest == dataset.digest
    assert again.to_json() == dataset.to_json()


def test_digest_is_of_the_contents_alone(folder: Path, tmp_path: Path) -> None:
    data = Data(format="folder", root=str(folder))
    before = index.build(data)
    moved = folder.rename(tmp_path / "elsewhere")
    after = index.build(Data(format="folder", root=str(moved)))
    assert after.root != before.root
    assert after.digest == before.digest
    assert replace(before, classes={1: "cat", 7: "cow"}).digest != before.digest

    image = moved / "images" / "train" / "0.png"
    pixels = np.array(Image.open(image))
    pixels[0, 0, 0] ^= 1
    Image.fromarray(pixels).save(image)
    assert index.build(Data(format="folder", root=str(moved))).digest != before.digest


def test_a_second_scan_reads_no_file(folder: Path, tmp_path: Path) -> None:
    data = Data(format="folder", root=str(folder))
    first = index.build(data, tmp_path / "cache")
    # Same size and time of change, but no image any more: only a look inside would tell.
    image = folder / "images" / "train" / "0.png"
    stat = image.stat()
    image.write_bytes(bytes(stat.st_size))
    os.utime(image, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert index.build(data, tmp_path / "cache") == first
    os.utime(image, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))
    with pytest.raises(UserError, match=r"train/0\.png"):
        index.build(data, tmp_path / "cache")


def test_a_damaged_cache_is_scanned_again(folder: Path, tmp_path: Path) -> None:
    data = Data(format="folder", root=str(folder))
    first = index.build(data, tmp_path)
    (cache,) = (tmp_path / "scans").glob("*.json.gz")
    for damage in (b"", b"not gzip", gzip.compress(b"[]"), cache.read_bytes()[:40]):
        cache.write_bytes(damage)
        assert index.build(data, tmp_path) == first


def test_what_was_scanned_before_a_bad_file_is_kept(folder: Path, tmp_path: Path) -> None:
    bad = folder / "masks" / "validation" / "3.png"
    good = bad.read_bytes()
    bad.write_bytes(b"")
    data = Data(format="folder", root=str(folder))
    with pytest.raises(UserError):
        index.build(data, tmp_path)
    bad.write_bytes(good)
    seen: list[tuple[int, int]] = []
    index.build(data, tmp_path, lambda done, of: seen.append((done, of)))
    assert seen == [(7, 8), (8, 8)]


@pytest.mark.parametrize("path", ["/etc/passwd", "../x.png", "a/../../x.png", "", "a\\b.png"])
def test_an_index_cannot_lead_out_of_its_folder(voc: Data, path: str) -> None:
    document = json.loads(index.build(voc).to_json())
    document["splits"]["train"][0][2] = path
    with pytest.raises(UserError, match="leads out"):
        Dataset.from_json(json.dumps(document).encode())


@pytest.mark.parametrize("data", [b"", b"{}", b"[1]", b'{"version": 99}', b"\xff"])
def test_what_is_no_index_is_refused(data: bytes) -> None:
    with pytest.raises(UserError, match=r"here\.json"):
        Dataset.from_json(data, "here.json")
