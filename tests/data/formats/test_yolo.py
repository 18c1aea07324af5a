from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dkd.data import index
from dkd.data.formats import recognised
from dkd.scenario.data import Data

pytest.importorskip("pycocotools.mask")

# As Ultralytics ship coco8-seg: a path that need not exist here, names by number.
ULTRALYTICS = """\
# Ultralytics COCO8-seg dataset
path: coco8-seg # dataset root dir
train: images/train # train images (relative to 'path')
val: images/val
test: # test images (optional)

names:
  0: cat
  1: dog

download: https://example.org/coco8-seg.zip
"""

# As Roboflow writes it: paths as seen from a folder beside these, names in a list.
ROBOFLOW = """\
train: ../train/images
val: ../valid/images
test: ../test/images

nc: 2
names: ['cat', 'dog']

roboflow:
  workspace: team
  version: 3
"""


def picture(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    Image.fromarray(rng.integers(0, 256, (20, 40, 3), dtype=np.uint8)).save(path)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "yolo"
    for seed, name in enumerate(("train/a", "train/nothing", "val/b")):
        picture(root / f"images/{name}.jpg", seed)
    lines = "1 0.25 0.25 0.75 0.25 0.75 0.5 0.25 0.5\n0 0.5 0.3 0.6 0.3 0.6 0.4 0.5 0.4\n"
    for name in ("train/a", "val/b"):
        (root / f"labels/{name}.txt").parent.mkdir(parents=True, exist_ok=True)
        (root / f"labels/{name}.txt").write_text(lines)
    (root / "data.yaml").write_text(ULTRALYTICS)
    return root


EXPECTED = np.zeros((20, 40), np.uint8)
EXPECTED[5:10, 10:30] = 2
EXPECTED[6:8, 20:24] = 1


def built(root: Path, tell=None, **fields: str) -> index.Dataset:
    data = Data.model_validate({"format": "yolo", "root": str(root), **fields})
    return index.build(data, root.parent / "cache", tell=tell)


def test_as_ultralytics_lays_it_out(root: Path, masks_of) -> None:
    assert recognised(root) == "yolo"
    notes: list[str] = []
    dataset = built(root, notes.append)
    assert dataset.classes == {1: "cat", 2: "dog"}
    found = masks_of(dataset)
    assert np.array_equal(found["train"]["train/a"], EXPECTED)
    assert not found["train"]["train/nothing"].any()
    assert any("images/train/nothing.jpg" in note for note in notes)
    void = masks_of(built(root, unlabelled="void"))["train"]
    assert np.array_equal(void["train/a"], np.where(EXPECTED, EXPECTED, 255))


def test_as_roboflow_exports_it(root: Path, masks_of) -> None:
    for split, ours in (("train", "train"), ("val", "valid")):
        for folder in ("images", "labels"):
            (root / ours).mkdir(exist_ok=True)
            (root / folder / split).rename(root / ours / folder)
    (root / "data.yaml").write_text(ROBOFLOW)
    dataset = built(root)
    assert [r.image for r in dataset.validation] == ["valid/images/b.jpg"]
    assert np.array_equal(masks_of(dataset)["train"]["train/images/a"], EXPECTED)


def test_lists_of_paths(root: Path) -> None:
    (root / "train.txt").write_text("./images/train/a.jpg\n\nimages/train/nothing.jpg\n")
    (root / "val.txt").write_text("./images/val/b.jpg\n")
    (root / "data.yaml").write_text("{train: train.txt, val: val.txt, names: [cat, dog]}")
    assert [r.id for r in built(root).train] == ["train/a", "train/nothing"]


def test_background_and_void_by_name(root: Path, masks_of) -> None:
    (root / "data.yaml").write_text(
        "{train: images/train, val: images/val, names: [void, background, cat]}"
    )
    (root / "labels/train/a.txt").write_text(
        "2 0 0 1 0 1 1 0 1\n1 0.25 0.25 0.75 0.25 0.75 0.5 0.25 0.5\n"
        "0 0.5 0.3 0.6 0.3 0.6 0.4 0.5 0.4\n"
    )
    (root / "labels/val/b.txt").unlink()
    dataset = built(root)
    assert dataset.classes == {1: "cat"}
    found = masks_of(dataset)["train"]["train/a"]
    assert np.array_equal(found, np.array([1, 255, 0], np.uint8)[EXPECTED])


def test_other_names_draw_masks_again(root: Path, masks_of) -> None:
    built(root)
    (root / "data.yaml").write_text(ULTRALYTICS.replace("0: cat", "0: void"))
    found = masks_of(built(root))["train"]["train/a"]
    assert np.array_equal(found, np.array([0, 255, 1], np.uint8)[EXPECTED])


def test_without_a_validation_split_a_fifth_is_taken(root: Path) -> None:
    (root / "data.yaml").write_text("{train: images/train, names: [cat, dog]}")
    dataset = built(root)
    assert len(dataset.train) == len(dataset.validation) == 1


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("2 0 0 1 0 1 1", ["class 2", "data.yaml"]),
        ("0.5 0 0 1 0 1 1", ["class 0.5"]),
        ("0 0.5 0.5 0.2 0.2", ["box", "segmentation"]),
        ("0 0 0 1 0 1", ["corner"]),
        ("0 0 0 1 0", ["box"]),
        ("0 0 0 1.2 0 1 1", ["outside"]),
        ("0 10 10 200 10 20 30", ["outside", "0..1"]),
        ("0 0 0 nan 0 1 1", ["outside"]),
        ("cat 0 0 1 0 1 1", ["NUMBER X Y"]),
    ],
)
def test_bad_lines(root: Path, refuse, line: str, words: list[str]) -> None:
    file = root / "labels/train/a.txt"
    file.write_text(f"0 0 0 1 0 1 1\n{line}\n")
    refuse(root, "yolo", f"{file}: line 2", *words)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("train: images/train\nval: images/val\n", ["names"]),
        (ULTRALYTICS.replace("1: dog", "1: CAT"), ["unique"]),
        (ULTRALYTICS.replace("1: dog", "x: dog"), ["'x'", "number"]),
        (ULTRALYTICS + "nc: 3\n", ["nc", "3 classes", "2 names"]),
        (ULTRALYTICS.replace("images/train", "images/none"), ["images/none", "neither"]),
        (ULTRALYTICS.replace("images/train", "/etc"), ["/etc"]),
        (ULTRALYTICS.replace("train: images/train", "train: 3"), ["train", "names no images"]),
        ("names: [cat", ["data.yaml"]),
        ("", ["names"]),
        (ULTRALYTICS.replace("images/train", "a" * 300), ["aaaa", "neither"]),
        (ULTRALYTICS.replace("1: dog", "1: void").replace("0: cat", "0: ignore"), ["0 classes"]),
    ],
)
def test_bad_data_yaml(root: Path, refuse, text: str, words: list[str]) -> None:
    (root / "data.yaml").write_text(text)
    refuse(root, "yolo", "data.yaml", *words)


def test_lists_that_lead_out_and_images_that_are_missing(root: Path, refuse) -> None:
    (root / "data.yaml").write_text("{train: train.txt, val: images/val, names: [cat, dog]}")
    (root / "train.txt").write_text("../x.jpg\n")
    refuse(root, "yolo", "leads outside")
    for line in (".", "images", "images/train/a.bmp"):
        (root / "train.txt").write_text(f"{line}\n")
        refuse(root, "yolo", "train", "not an image")
    (root / "train.txt").write_text("images/train/none.jpg\n")
    refuse(root, "yolo", "images/train/none.jpg", "missing")
