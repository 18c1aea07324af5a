import gzip
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from dkd.data import checks, formats
from dkd.data.index import Dataset
from dkd.data.records import Record
from dkd.errors import UserError
from dkd.scenario.class_names import ADE20K_CLASSES, VOC_CLASSES
from dkd.scenario.data import Data

REFERENCE = Path(__file__).parents[1] / "reference"


@pytest.fixture(scope="module")
def published() -> Dataset:
    """VOC 2012 as it is published, by the classes in its masks."""
    with gzip.open(REFERENCE / "voc_class_presence.json.gz") as file:
        presence = json.load(file)
    splits = {
        split: tuple(
            Record(id_, "", "", 1, 1, tuple(v for v in held if 0 < v < 255), "")
            for id_, held in presence[key].items()
        )
        for split, key in (("train", "train"), ("validation", "val"))
    }
    return Dataset("voc", "voc", "/", VOC_CLASSES, {}, False, splits)


def test_the_lists_are_the_authors_but_for_the_two_with_gaps() -> None:
    golden = json.loads((REFERENCE / "split_golden.json").read_text())
    expected = {
        (key.split("/")[0].replace("ade", "ade20k"), key.split("/", 1)[1]): [
            v["count"],
            v["sha256"],
        ]
        for key, v in golden.items()
    }
    gaps = {("ade20k", f"overlap/{task}/train/0") for task in ("100-10", "100-5")}
    assert {expected[gap][0] for gap in gaps} == {20192}
    path = Path(checks.__file__).parent / "published_lists.json"
    ours = {
        (name, key): value
        for name, lists in json.loads(path.read_text()).items()
        for key, value in lists.items()
        if key not in ("train", "validation")
    }
    assert ours == {key: value for key, value in expected.items() if key not in gaps}


def test_the_published_voc_is_recognised(published: Dataset) -> None:
    assert checks.differences(published) == []


def test_an_image_less(published: Dataset) -> None:
    fewer = {**published.splits, "train": published.train[1:]}
    assert checks.differences(replace(published, splits=fewer)) == [
        "train: 10581 images, published 10582"
    ]


def test_masks_with_other_classes(published: Dataset) -> None:
    first = published.validation[0]
    assert 1 in first.classes
    changed = (replace(first, classes=(*first.classes, 20)), *published.validation[1:])
    lines = checks.differences(
        replace(published, splits={**published.splits, "validation": changed})
    )
    assert lines
    assert all("/val/" in line or "/test/" in line for line in lines)
    assert any(line.startswith("overlap/19-1/val/1: ") for line in lines)


def test_missing_ade20k_images_are_named() -> None:
    records = tuple(
        Record(f"ADE_train_{n:08}", "", "", 1, 1, (), "") for n in range(1, 20211) if n != 77
    )
    validation = tuple(Record(f"ADE_val_{n:08}", "", "", 1, 1, (), "") for n in range(1, 2001))
    dataset = Dataset(
        "ade20k",
        "ade20k",
        "/",
        ADE20K_CLASSES,
        {},
        True,
        {"train": records, "validation": validation},
    )
    (line,) = checks.differences(dataset)
    assert line == "train: 20209 images, published 20210; missing: ADE_train_00000077"


def test_tasks_by_name(published: Dataset) -> None:
    counts = {name: checks.published_task(published, name).counts for name in ("19-1", "5-3")}
    assert counts == {"19-1": (19, 1), "5-3": (5, 3, 3, 3, 3, 3)}


def test_a_name_that_no_file_can_have_is_missing(
    voc_maker: Callable[..., Path], tmp_path: Path
) -> None:
    root = voc_maker(tmp_path / "voc", 3, 2)
    with (root / "ImageSets/Segmentation/val.txt").open("a") as file:
        file.write("a" * 300 + "\n")
    image, mask = checks.missing(formats.read(Data(format="voc", root=str(root))))
    assert (image.kind, mask.kind) == ("images", "masks")
    assert len(image.paths) == len(mask.paths) == 1


def test_missing_files_are_counted_and_some_named(folder: Path) -> None:
    for number in range(3):
        (folder / "masks" / "train" / f"{number}.png").unlink()
    (line,) = checks.missing(formats.read(Data(format="folder", root=str(folder))))
    assert str(line) == (
        "train: 3 of 4 masks are missing: masks/train/0.png, masks/train/1.png, masks/train/2.png"
    )


def test_nothing_is_published_of_own_data(published: Dataset) -> None:
    with pytest.raises(UserError, match="pets: no published lists"):
        checks.differences(replace(published, name="pets"))
