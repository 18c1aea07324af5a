import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dkd.data import index
from dkd.data.formats import recognised
from dkd.scenario.data import Data

masks_of_coco = pytest.importorskip("pycocotools.mask")

CATEGORIES = [
    {"id": 90, "name": "cat"},
    {"id": 7, "name": "dog"},
    {"id": 18, "name": "_background_"},
]


def square(left: int, top: int, side: int) -> list[list[float]]:
    right, bottom = left + side, top + side
    return [[left, top, right, top, right, bottom, left, bottom]]


def write(file: Path, annotations: list[dict], images: list[str], categories=CATEGORIES) -> None:
    document = {
        "images": [
            {"id": 1000 + n, "file_name": name, "width": 32, "height": 24}
            for n, name in enumerate(images)
        ],
        "annotations": [{"id": n, **each} for n, each in enumerate(annotations, start=1)],
        "categories": categories,
    }
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(document))


def picture(path: Path, size: tuple[int, int] = (32, 24), seed: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng([seed, *path.name.encode()])
    Image.fromarray(rng.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)).save(path)


ANNOTATIONS = [
    {"image_id": 1000, "category_id": 90, "segmentation": square(2, 3, 5), "iscrowd": 0},
    {"image_id": 1000, "category_id": 7, "segmentation": square(10, 10, 4) + square(20, 2, 3)},
]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "coco"
    for split in ("train2017", "val2017"):
        write(root / f"annotations/instances_{split}.json", ANNOTATIONS, ["a b.jpg", "empty.jpg"])
        for name in ("a b.jpg", "empty.jpg"):
            picture(root / split / name, seed=len(split))
    (root / "annotations/captions_train2017.json").write_text("{}")
    return root


def built(root: Path, **fields: str) -> index.Dataset:
    data = Data.model_validate({"format": "coco", "root": str(root), **fields})
    return index.build(data, root.parent / "cache")


EXPECTED = np.zeros((24, 32), np.uint8)
EXPECTED[3:8, 2:7], EXPECTED[10:14, 10:14], EXPECTED[2:5, 20:23] = 2, 1, 1


def test_as_coco_itself_is_laid_out_with_gaps_in_the_ids(root: Path, masks_of) -> None:
    assert recognised(root) == "coco"
    dataset = built(root)
    assert dataset.classes == {1: "dog", 2: "cat"}  # in the order of their ids
    found = masks_of(dataset)
    assert np.array_equal(found["train"]["a b"], EXPECTED)
    assert not found["validation"]["empty"].any()
    assert [r.image for r in dataset.train] == ["train2017/a b.jpg", "train2017/empty.jpg"]


def test_unlabelled_is_background_or_void(root: Path, masks_of) -> None:
    found = masks_of(built(root, unlabelled="void"))
    assert np.array_equal(found["train"]["a b"], np.where(EXPECTED, EXPECTED, 255))
    assert (found["train"]["empty"] == 255).all()
    assert built(root).digest != built(root, unlabelled="void").digest


def test_background_and_void_by_name(root: Path, masks_of) -> None:
    file = root / "annotations/instances_train2017.json"
    categories = [*CATEGORIES, {"id": 3, "name": "ignore"}]
    others = [
        {"image_id": 1001, "category_id": 18, "segmentation": square(0, 0, 10)},
        {"image_id": 1001, "category_id": 3, "segmentation": square(2, 2, 3)},
    ]
    write(file, ANNOTATIONS + others, ["a b.jpg", "empty.jpg"], categories)
    dataset = built(root, unlabelled="void")
    mask = masks_of(dataset)["train"]["empty"]
    assert dataset.classes == {1: "dog", 2: "cat"}
    assert (mask[2:5, 2:5] == 255).all()
    assert [mask[0, 0], mask[20, 20]] == [0, 255]


def test_both_run_lengths_and_a_crowd_below(root: Path, masks_of) -> None:
    region = np.zeros((24, 32), np.uint8)
    region[5:20, 4:30] = 1
    text = masks_of_coco.encode(np.asfortranarray(region))["counts"].decode()
    small = np.zeros((24, 32), np.uint8)
    small[6:8, 6:8] = 1
    flat = small.T.ravel()
    bounds = [0, *(np.flatnonzero(np.diff(flat)) + 1).tolist(), flat.size]
    crowd = {"size": [24, 32], "counts": np.diff(bounds).tolist()}
    write(
        root / "annotations/instances_train2017.json",
        [
            {
                "image_id": 1000,
                "category_id": 7,
                "segmentation": {"size": [24, 32], "counts": text},
            },
            {"image_id": 1000, "category_id": 90, "segmentation": crowd, "iscrowd": 1},
            {"image_id": 1001, "category_id": 90, "segmentation": crowd, "iscrowd": 1},
        ],
        ["a b.jpg", "empty.jpg"],
    )
    found = masks_of(built(root))["train"]
    assert np.array_equal(found["a b"], region)
    assert np.array_equal(found["empty"], small * 2)


def test_a_list_without_a_split_is_divided_by_the_ids_alone(tmp_path: Path, masks_of) -> None:
    """CVAT exports a task as ``instances_default.json``, with images in ``images/default``."""
    root = tmp_path / "cvat"
    names = [f"{n}.png" for n in range(20)]
    for name in names:
        picture(root / "images/default" / name)
    write(root / "annotations/instances_default.json", ANNOTATIONS, names)
    first = built(root)
    held_out = {r.id for r in first.validation}
    assert held_out
    assert held_out | {r.id for r in first.train} == {n[:-4] for n in names}
    for name in ("20.png", "21.png"):
        picture(root / "images/default" / name)
    write(root / "annotations/instances_default.json", ANNOTATIONS, [*names, "20.png", "21.png"])
    assert {r.id for r in built(root).validation} - {"20", "21"} == held_out


def test_as_roboflow_exports_it_with_the_supercategory_first(tmp_path: Path, masks_of) -> None:
    root = tmp_path / "roboflow"
    categories = [
        {"id": 0, "name": "animals", "supercategory": "none"},
        {"id": 1, "name": "cat", "supercategory": "animals"},
        {"id": 2, "name": "dog", "supercategory": "animals"},
    ]
    annotations = [{"image_id": 1000, "category_id": 2, "segmentation": square(2, 3, 5)}]
    for split in ("train", "valid", "test"):
        name = f"{split}_jpg.rf.0a1b.jpg"
        picture(root / split / name)
        write(root / split / "_annotations.coco.json", annotations, [name], categories)
    assert recognised(root) == "coco"
    dataset = built(root)
    assert dataset.classes == {1: "cat", 2: "dog"}
    assert dataset.validation[0].image == "valid/valid_jpg.rf.0a1b.jpg"
    assert masks_of(dataset)["train"]["train_jpg.rf.0a1b"][4, 4] == 2


def test_what_changed_is_drawn_again_and_nothing_else(root: Path, masks_of) -> None:
    dataset = built(root)
    drawn = {r.mask: Path(dataset.masks, r.mask) for r in dataset.train}
    before = {mask: path.stat().st_mtime_ns for mask, path in drawn.items()}
    assert built(root) == dataset
    annotations = [
        *ANNOTATIONS,
        {"image_id": 1001, "category_id": 7, "segmentation": square(1, 1, 2)},
    ]
    write(root / "annotations/instances_train2017.json", annotations, ["a b.jpg", "empty.jpg"])
    changed = built(root)
    assert changed.digest != dataset.digest
    assert masks_of(changed)["train"]["empty"][1, 1] == 1
    again = {m for m, path in drawn.items() if path.stat().st_mtime_ns != before[m]}
    assert again == {"masks/train/empty.png"}


def test_turned_images(root: Path, masks_of) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (24, 32)).save(root / "train2017/a b.jpg", exif=exif)
    found = masks_of(built(root))["train"]["a b"]
    assert np.array_equal(found, EXPECTED)  # drawn over the upright image


Change = Callable[[dict], object]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda d: d["annotations"][0].update(image_id=5), ["annotation 1 ", "image 5", "listed"]),
        (lambda d: d["annotations"][1].update(category_id=5), ["annotation 2 ", "category 5"]),
        (lambda d: d["annotations"][0].update(segmentation=[]), ["annotation 1 ", "boxes"]),
        (lambda d: d["annotations"][0].update(segmentation="x"), ["annotation 1", "'x'"]),
        (
            lambda d: d["annotations"][0].update(segmentation=[[1, 2, 3]]),
            ["annotation 1", "corner"],
        ),
        (
            lambda d: d["annotations"][0].update(segmentation=square(30, 3, 5)),
            ["annotation 1", "35,3", "outside", "32x24"],
        ),
        (
            lambda d: d["annotations"][0].update(segmentation={"size": [24, 32], "counts": [5, 6]}),
            ["annotation 1", "11 pixels", "768"],
        ),
        (
            lambda d: d["annotations"][0].update(segmentation={"size": [32, 24], "counts": "l3"}),
            ["annotation 1", "[32, 24]", "[24, 32]"],
        ),
        (
            lambda d: d["annotations"][0].update(
                segmentation={"size": [24, 32], "counts": "l38`0"}
            ),
            ["annotation 1", "pixels"],
        ),
        (lambda d: d["images"][0].update(width=40), ["image 1000", "40x24", "32x24"]),
        (lambda d: d["images"][0].update(width="40"), ["image 1000", "width", "'40'"]),
        (lambda d: d["images"][1].update(id=1000), ["image 1000", "twice"]),
        (
            lambda d: d["images"][1].update(file_name="../x.jpg"),
            ["image 1001", "not a file"],
        ),
        (lambda d: d["images"][1].update(file_name="none.jpg"), ["none.jpg", "missing"]),
        (lambda d: d["categories"][1].update(id=90), ["category 90", "twice"]),
        (lambda d: d["categories"].append({"id": 99, "name": "CAT"}), ["CAT", "unique"]),
        (lambda d: d["categories"][0].update(name=""), ["category 90", "name"]),
        (lambda d: d["categories"][0].update(name="bird"), ["'cat'", "'bird'", "train2017"]),
        (lambda d: d.pop("categories"), ["categories"]),
        (lambda d: d.pop("annotations"), ["annotations"]),
        (lambda d: d["annotations"].append(3), ["annotations[2]", "3"]),
        (lambda d: d["annotations"][0].update(category_id=[1]), ["annotation 1", "[1]"]),
        (lambda d: d["annotations"][0].update(iscrowd="0"), ["annotation 1", "iscrowd", "'0'"]),
        (lambda d: d["images"][0].update(file_name="."), ["image 1000", "not a file"]),
        (lambda d: d["images"][0].update(file_name="a" * 300 + ".jpg"), ["aaaa", "missing"]),
        (
            lambda d: d["annotations"][0].update(segmentation=[[10**400] * 6]),
            ["annotation 1", "polygons"],
        ),
        (
            lambda d: d["annotations"][0].update(
                segmentation={"size": [24, 32], "counts": [10**30]}
            ),
            ["annotation 1", "768"],
        ),
        (
            lambda d: d["annotations"][0].update(  # which 64 bits add up to 768
                segmentation={"size": [24, 32], "counts": [2**62] * 4 + [768]}
            ),
            ["annotation 1", "768"],
        ),
    ],
)
def test_bad_annotations(root: Path, refuse, change: Change, words: list[str]) -> None:
    file = root / "annotations/instances_train2017.json"
    document = json.loads(file.read_text())
    change(document)
    file.write_text(json.dumps(document))
    refuse(root, "coco", *words)


@pytest.mark.parametrize(("classes", "void", "kind"), [(254, 255, "L"), (300, 65535, "I;16")])
def test_masks_have_16_bits_where_the_classes_take_them(
    root: Path, classes: int, void: int, kind: str
) -> None:
    categories = [{"id": n, "name": f"class {n}"} for n in range(1, classes + 1)]
    square = {"id": 1, "image_id": 1000, "category_id": classes}
    square["segmentation"] = [[2, 2, 8, 2, 8, 8, 2, 8]]
    for split in ("train2017", "val2017"):
        file = root / f"annotations/instances_{split}.json"
        write(file, [square], ["a b.jpg"], categories)
    found = built(root, unlabelled="void")
    record = found.train[0]
    mask = Image.open(Path(found.masks, record.mask))
    assert (record.classes, mask.mode) == ((classes,), kind)
    assert (mask.getpixel((5, 5)), mask.getpixel((0, 0))) == (classes, void)


def test_a_supercategory_that_is_no_name_is_nothing(root: Path) -> None:
    categories = [{**each, "supercategory": ["animal"]} for each in CATEGORIES]
    file = root / "annotations/instances_train2017.json"
    write(file, ANNOTATIONS, ["a b.jpg", "empty.jpg"], categories)
    assert built(root).classes == {1: "dog", 2: "cat"}


@pytest.mark.parametrize("cut", [0, 10, 300, -1])
def test_cut_off_json(root: Path, refuse, cut: int) -> None:
    file = root / "annotations/instances_val2017.json"
    file.write_text(file.read_text()[:cut])
    refuse(root, "coco", str(file), "line 1, column")


def test_no_such_split_or_folder(root: Path, refuse, tmp_path: Path) -> None:
    refuse(root, "coco", "'test'", "train2017, val2017", train="test")
    refuse(tmp_path, "coco", "annotations")


def test_without_the_package_one_line(root: Path, refuse, monkeypatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pycocotools", None)
    refuse(root, "coco", "pip install 'dkd[labels]'")
