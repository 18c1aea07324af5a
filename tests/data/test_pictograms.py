"""The demonstration's scenes."""

from pathlib import Path

import numpy as np
from PIL import Image, ImageChops

from dkd.data import index, pictograms
from dkd.data.index import Dataset, Record
from dkd.scenario.data import Data
from dkd.scenario.tasks import VOID


def scenes(folder: Path, **settings: object) -> Dataset:
    chosen = {"train": 60, "validation": 10, "size": 64, **settings}
    return index.build(Data.model_validate({"format": "pictograms", "pictograms": chosen}), folder)


def mask(dataset: Dataset, record: Record) -> np.ndarray:
    return np.array(Image.open(Path(dataset.root) / record.mask))


def test_scenes_show_every_class_with_a_rim_of_void(tmp_path: Path) -> None:
    dataset = scenes(tmp_path)
    assert list(dataset.classes.values()) == (
        ["cat", "fish", "car", "plane", "apple", "cup", "bird", "bus", "boat", "tree"]
    )
    assert {v for r in dataset.train for v in r.classes} == set(dataset.classes)
    assert np.mean([len(r.classes) for r in dataset.train]) > 1.2
    for record in dataset.train[:10]:
        pixels = mask(dataset, record)
        assert 0.02 < np.isin(pixels, record.classes).mean() < 0.6
        assert 0 < (pixels == VOID).mean() < 0.2


def test_a_pictogram_is_brighter_or_darker_than_what_is_around_it(tmp_path: Path) -> None:
    dataset = scenes(tmp_path)
    apple = next(value for value, name in dataset.classes.items() if name == "apple")
    contrasts = []
    for record in dataset.train:
        pixels = mask(dataset, record)
        if apple in record.classes:
            grey = np.array(Image.open(Path(dataset.root) / record.image).convert("L"), float)
            contrasts.append(abs(grey[pixels == apple].mean() - grey[pixels == 0].mean()))
    assert contrasts
    assert np.median(contrasts) > 30


def test_splits_lie_over_different_parts_of_the_photographs() -> None:
    for train, validation in zip(*map(pictograms.grounds, ("train", "validation")), strict=True):
        assert train.height == validation.height
        assert train.width > validation.width
        for left in range(0, train.width - validation.width, 7):
            part = train.crop((left, 0, left + validation.width, train.height))
            assert ImageChops.difference(part, validation).getbbox() is not None


def test_a_new_class_is_in_every_scene_and_alone_labelled_in_training(tmp_path: Path) -> None:
    dataset = scenes(tmp_path, new_class="umbrella")
    assert dataset.classes[11] == "umbrella"
    assert {r.classes for r in dataset.train} == {(11,)}
    assert all(11 in r.classes for r in dataset.validation)
    assert len({v for r in dataset.validation for v in r.classes}) > 3
