from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dkd.data import formats, index, labels, packed
from dkd.data.formats import recognised
from dkd.data.formats.cityscapes import CLASSES, VOID_VALUES
from dkd.data.index import Dataset
from dkd.errors import UserError
from dkd.scenario.data import Data
from dkd.scenario.tasks import Task


@pytest.fixture
def city(tmp_path: Path) -> Path:
    """Two cities for training, one for validation; all label ids from 0 to 33 in each mask."""
    root = tmp_path / "cityscapes"
    for split, town, numbers in (
        ("train", "aachen", range(2)),
        ("train", "ulm", range(2, 3)),
        ("val", "lindau", range(2)),
    ):
        for number in numbers:
            id_ = f"{town}_{number:06}_000019"
            image = root / f"leftImg8bit/{split}/{town}/{id_}_leftImg8bit.png"
            mask = root / f"gtFine/{split}/{town}/{id_}_gtFine_labelIds.png"
            for path in (image, mask):
                path.parent.mkdir(parents=True, exist_ok=True)
            colour = np.random.default_rng([number, len(split)]).integers(
                0, 256, (17, 40, 3), dtype=np.uint8
            )
            Image.fromarray(colour).save(image)
            Image.fromarray(np.resize(np.arange(34, dtype=np.uint8), (17, 40))).save(mask)
            mask.with_name(mask.name.replace("labelIds", "color")).write_bytes(b"not read")
    return root


def data(root: Path) -> Data:
    return Data(format="cityscapes", root=str(root))


def test_the_19_classes_that_the_benchmark_evaluates() -> None:
    assert len(CLASSES) == 19
    assert sorted([*CLASSES, *VOID_VALUES]) == list(range(34))
    # Label ids 7 and 33 are the first and the last of them; 18 (polegroup) and 29 are none.
    assert (CLASSES[7], CLASSES[33], CLASSES[24]) == ("road", "bicycle", "person")
    assert {0, 1, 9, 10, 14, 15, 16, 18, 29, 30} <= set(VOID_VALUES)


def test_images_and_masks_of_every_city(city: Path) -> None:
    assert recognised(city) == "cityscapes"
    told: list[str] = []
    dataset = index.build(data(city), tell=told.append)
    assert [record.id for record in dataset.train] == [
        *("aachen_000000_000019", "aachen_000001_000019", "ulm_000002_000019")
    ]
    assert len(dataset.validation) == 2
    assert all(record.classes == tuple(CLASSES) for record in dataset.train)
    assert told == []


def test_other_ids_are_void_in_every_table(city: Path, tmp_path: Path) -> None:
    dataset = index.build(data(city))
    packed.pack(dataset, str(tmp_path / "packed"), tmp_path / "work")
    opened, _ = packed.open_dataset(str(tmp_path / "packed"))
    assert opened.digest == dataset.digest
    assert Dataset.from_json(dataset.to_json()) == dataset
    task = Task.of([["road", "car"], ["person"]], opened.classes)
    for table in (
        labels.training_table(opened, task, 0),
        labels.test_table(opened, task, 1),
        labels.full_table(opened, task),
    ):
        assert {int(table[value]) for value in VOID_VALUES} == {255}
        assert [table[7], table[26]] == [1, 2]
        assert table[33] == 0  # bicycle is never learned
    assert labels.training_table(opened, task, 1)[24] == 3


def test_what_is_not_taken_is_told(city: Path) -> None:
    (city / "leftImg8bit/train/ulm/other.png").write_bytes(b"")
    (city / "gtFine/val/lindau/lindau_9_gtFine_labelIds.png").write_bytes(b"")
    told: list[str] = []
    index.build(data(city), tell=told.append)
    assert told == [
        "1 train images that are not called *_leftImg8bit.png: leftImg8bit/train/ulm/other.png",
        "1 val masks without an image that is used: gtFine/val/lindau/lindau_9_gtFine_labelIds.png",
    ]


def test_bad_folders(city: Path) -> None:
    mask = next((city / "gtFine/train/ulm").glob("*labelIds.png"))
    Image.fromarray(np.full((17, 40), 40, np.uint8)).save(mask)
    with pytest.raises(UserError, match=r"labelIds\.png: label value 40 is none of the classes"):
        index.build(data(city))
    mask.unlink()
    with pytest.raises(UserError, match=r"ulm_.*labelIds\.png: the mask is missing"):
        index.build(data(city))
    (city / "leftImg8bit/val").rename(city / "leftImg8bit/other")
    with pytest.raises(UserError, match="leftImg8bit/val: no such folder"):
        formats.read(data(city))
