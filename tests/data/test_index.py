import gzip
import hashlib
import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dkd.data import index, scan
from dkd.data.index import Dataset
from dkd.errors import NewerFormat, UserError
from dkd.scenario.data import Data


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


def test_a_second_scan_reads_no_file(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = Data(format="folder", root=str(folder))
    first = index.build(data, tmp_path / "cache")
    with monkeypatch.context() as patch:
        patch.setattr(scan, "examine", lambda *_: pytest.fail("looked inside a file"))
        assert index.build(data, tmp_path / "cache") == first
    image = folder / "images" / "train" / "0.png"
    os.utime(image, ns=(0, image.stat().st_mtime_ns + 1))
    looked: list[Path] = []
    whole = scan.examine
    monkeypatch.setattr(scan, "examine", lambda *paths: looked.append(paths[0]) or whole(*paths))
    assert index.build(data, tmp_path / "cache") == first
    assert looked == [image]


@pytest.mark.parametrize("name", ["masks/train/1.png", "images/train/0.png"])
def test_a_file_replaced_by_one_of_its_size_and_time_is_seen(
    folder: Path, tmp_path: Path, name: str
) -> None:
    """As ``cp -p`` and ``rsync -t`` do."""
    path, data = folder / name, Data(format="folder", root=str(folder))
    pixels = np.array(Image.open(path))
    Image.fromarray(pixels).save(path, compress_level=0)  # so that the size stays
    before, stat = index.build(data, tmp_path / "cache"), path.stat()
    Image.fromarray(np.flip(pixels, 1)).save(path, compress_level=0)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    after = path.stat()
    assert (after.st_size, after.st_mtime_ns) == (stat.st_size, stat.st_mtime_ns)
    assert index.build(data, tmp_path / "cache").digest != before.digest


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


def turn(path: Path, orientation: int) -> None:
    """Gives an image a tag; its pixels stay as they are."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.open(path).save(path, exif=exif)


def test_a_tagged_image_is_as_large_as_it_is_seen(folder: Path) -> None:
    data = Data(format="folder", root=str(folder))
    before = index.build(data)
    turn(folder / "images/train/0.png", 6)  # the mask stays as the image is stored
    mask = folder / "masks/train/1.png"
    turn(folder / "images/train/1.png", 8)
    Image.open(mask).transpose(Image.Transpose.ROTATE_90).save(mask)  # drawn upright
    after = index.build(data)
    for old, new, orientation in zip(before.train[:2], after.train[:2], (6, 8), strict=True):
        assert (new.height, new.width) == (old.width, old.height)
        assert new.orientation == orientation
    assert after.train[2:] == before.train[2:]
    assert Dataset.from_json(after.to_json()) == after


def test_what_is_turned_has_another_digest(folder: Path) -> None:
    """The same files had the same digest when they were not turned: their results are others."""
    dataset = index.build(Data(format="folder", root=str(folder)))
    turned = replace(dataset.train[0], orientation=3)
    splits = {**dataset.splits, "train": (turned, *dataset.train[1:])}
    assert replace(dataset, splits=splits).digest != dataset.digest


def test_digests_of_untagged_images_stay(folder: Path) -> None:
    """They key the results of all runs so far."""
    dataset = index.build(Data(format="folder", root=str(folder)))
    old = {
        "classes": [[1, "cat"], [7, "dog"]],
        "palette": sorted(dataset.palette.items()),
        "future_is_void": False,
        "splits": {
            split: [[r.id, r.height, r.width, r.classes, r.digest] for r in records]
            for split, records in dataset.splits.items()
        },
    }
    text = json.dumps(old, sort_keys=True, separators=(",", ":"))
    assert dataset.digest == hashlib.sha256(text.encode()).hexdigest()


@pytest.mark.parametrize("path", ["/etc/passwd", "../x.png", "a/../../x.png", "", "a\\b.png"])
def test_an_index_cannot_lead_out_of_its_folder(voc: Data, path: str) -> None:
    document = json.loads(index.build(voc).to_json())
    document["splits"]["train"][0][2] = path
    with pytest.raises(UserError, match="leads outside"):
        Dataset.from_json(json.dumps(document).encode())


def test_an_index_of_a_newer_version_is_told() -> None:
    with pytest.raises(NewerFormat, match=r"^here\.json: has format 99, .*up to format 1"):
        Dataset.from_json(b'{"version": 99, "splits": "in another way"}', "here.json")


@pytest.mark.parametrize("data", [b"", b"{}", b"[1]", b'{"version": 0}', b"\xff"])
def test_what_is_no_index_is_refused(data: bytes) -> None:
    with pytest.raises(UserError, match=r"here\.json"):
        Dataset.from_json(data, "here.json")
