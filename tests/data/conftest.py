"""Small data sets in the layouts that are read, made of random shapes."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dkd.scenario import Data


def write_pair(image: Path, mask: Path, rng: np.random.Generator, values: list[int]) -> None:
    """A random image, and a mask of random rectangles of these label values (all visible)."""
    height, width = (int(n) for n in rng.integers(20, 40, 2))
    labels = np.zeros((height, width), np.uint8)
    for value in values:
        top, left = rng.integers(0, height - 8), rng.integers(0, width - 8)
        labels[top : top + 8, left : left + 8] = value
    for number, value in enumerate(values):
        labels[-1, number] = value
    image.parent.mkdir(parents=True, exist_ok=True)
    mask.parent.mkdir(parents=True, exist_ok=True)
    pixels = rng.integers(0, 256, (height // 4 + 1, width // 4 + 1, 3), dtype=np.uint8)
    Image.fromarray(pixels).resize((width, height)).save(image)
    picture = Image.fromarray(labels)
    if len(values) % 2:  # with a palette, as VOC's, or grey, as ADE20K's
        picture = picture.convert("P")
        picture.putdata(labels.ravel().tolist())
    picture.save(mask)


def make_voc(root: Path, train: int = 60, validation: int = 25) -> Path:
    """VOC's layout with random classes out of 1..7; lists as pairs of paths and as bare ids."""
    rng = np.random.default_rng(5)
    lists = root / "ImageSets" / "Segmentation"
    lists.mkdir(parents=True)
    pairs, ids = [], []
    for number in range(train + validation):
        id_ = f"2007_{number:06}"
        masks = "SegmentationClassAug" if number < train else "SegmentationClass"
        values = rng.choice([1, 2, 3, 4, 5, 6, 7], rng.integers(0, 4), replace=False).tolist()
        values += [255] if rng.random() < 0.5 else []
        write_pair(root / f"JPEGImages/{id_}.jpg", root / masks / f"{id_}.png", rng, values)
        if number < train:
            pairs.append(f"/JPEGImages/{id_}.jpg /{masks}/{id_}.png")
        else:
            ids.append(id_)
    (lists / "train_aug.txt").write_text("\n".join(pairs) + "\n")
    (lists / "val.txt").write_text("\n".join(ids))
    return root


def make_ade20k(root: Path, train: int = 50, validation: int = 20) -> Path:
    """ADE20K's layout with random classes out of 98..108."""
    rng = np.random.default_rng(6)
    for split, short, count in (("training", "train", train), ("validation", "val", validation)):
        for number in range(count):
            name = f"ADE_{short}_{number + 1:08}"
            values = rng.choice(range(98, 109), rng.integers(0, 5), replace=False).tolist()
            write_pair(
                root / "images" / split / f"{name}.jpg",
                root / "annotations" / split / f"{name}.png",
                rng,
                values,
            )
    return root


def make_folder(root: Path, count: int = 4) -> Path:
    """The plain layout with the classes cat (1) and dog (7)."""
    rng = np.random.default_rng(7)
    for split in ("train", "validation"):
        for number in range(count):
            write_pair(
                root / "images" / split / f"{number}.png",
                root / "masks" / split / f"{number}.png",
                rng,
                [1, 7, 255] if number % 2 else [7],
            )
    (root / "classes.yaml").write_text("1: cat\n7: {name: dog, colour: [10, 200, 30]}\n")
    return root


@pytest.fixture(scope="session")
def voc(tmp_path_factory: pytest.TempPathFactory) -> Data:
    return Data(format="voc", root=str(make_voc(tmp_path_factory.mktemp("voc") / "VOC2012")))


@pytest.fixture(scope="session")
def ade20k(tmp_path_factory: pytest.TempPathFactory) -> Data:
    return Data(format="ade20k", root=str(make_ade20k(tmp_path_factory.mktemp("ade") / "ade")))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_folder(tmp_path / "pets")


@pytest.fixture
def voc_maker() -> Callable[..., Path]:
    return make_voc
