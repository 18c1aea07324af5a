import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dkd.data import index
from dkd.data.formats import recognised
from dkd.scenario.data import Data

# As Label Studio 1.x writes a project's JSON (fields that are not read left out).
UPLOAD = "/data/upload/1/0a1b2c3d-cat%20one.png"
LOCAL = "/data/local-files/?d=photos/two.png"


def region(label: str, tool: str = "tag") -> dict:
    return {
        "id": "x1",
        "from_name": tool,
        "to_name": "image",
        "type": "brushlabels",
        "original_width": 30,
        "original_height": 20,
        "value": {"format": "rle", "rle": [0, 1, 2], "brushlabels": [label]},
    }


def task(id_: int, image: str, *labels: str, annotation: int = 0) -> dict:
    return {
        "id": id_,
        "annotations": [{"id": annotation or id_ * 10, "result": [region(x) for x in labels]}],
        "data": {"image": image},
    }


def brush(root: Path, name: str, rows: slice, columns: slice, level: int = 255) -> None:
    mask = np.zeros((20, 30), np.uint8)
    mask[rows, columns] = level
    Image.fromarray(mask).save(root / name)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "export"
    (root / "images").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for name in ("0a1b2c3d-cat one.png", "two.png", "three.png"):
        picture = rng.integers(0, 256, (20, 30, 3), dtype=np.uint8)
        Image.fromarray(picture).save(root / "images" / name)
    tasks = [
        task(1, UPLOAD, "Car", "Car", "fire-truck"),
        task(2, LOCAL, "Car"),
        task(3, "s3://bucket/three.png"),
    ]
    (root / "project-1-at-2026-01-02.json").write_text(json.dumps(tasks))
    brush(root, "task-1-annotation-10-by-me@example.org-tag-Car-0.png", np.s_[2:9], np.s_[2:9])
    brush(root, "task-1-annotation-10-by-me@example.org-tag-Car-1.png", np.s_[15:18], np.s_[2:9])
    brush(
        root, "task-1-annotation-10-by-me@example.org-tag-fire-truck-0.png", np.s_[4:6], np.s_[4:6]
    )
    brush(root, "task-2-annotation-20-by-1-tag-Car-0.png", np.s_[:], np.s_[:], 127)
    return root


def built(root: Path, tell=None, **fields: str) -> index.Dataset:
    data = Data.model_validate({"format": "label-studio", "root": str(root), **fields})
    return index.build(data, root.parent / "cache", tell=tell)


def test_brushed_labels(root: Path, masks_of) -> None:
    assert recognised(root) == "label-studio"
    notes: list[str] = []
    dataset = built(root, notes.append)
    assert dataset.classes == {1: "Car", 2: "fire-truck"}
    found = {id_: mask for split in masks_of(dataset).values() for id_, mask in split.items()}
    expected = np.zeros((20, 30), np.uint8)
    expected[2:9, 2:9], expected[15:18, 2:9], expected[4:6, 4:6] = 1, 1, 2
    assert np.array_equal(found["0a1b2c3d-cat one"], expected)
    assert not found["two"].any()  # levels below 128 are a brush's soft edge
    assert not found["three"].any()
    assert any("without a brushed label" in note and ": 3" in note for note in notes)
    assert any("no split" in note for note in notes)
    void = masks_of(built(root, unlabelled="void"))
    assert {255} == {int(m[19, 29]) for split in void.values() for m in split.values()}


@pytest.mark.parametrize("annotator", ["", "anna-maria+work@example-site.org"])
def test_annotators_with_any_address_or_none(root: Path, masks_of, annotator: str) -> None:
    expected = masks_of(built(root))
    for file in root.glob("task-1-*.png"):
        file.rename(root / file.name.replace("me@example.org", annotator))
    for split, masks in masks_of(built(root)).items():
        for id_, mask in masks.items():
            assert np.array_equal(mask, expected[split][id_])


def test_its_coco_export_with_images_as_windows_names_them(root: Path, masks_of) -> None:
    pytest.importorskip("pycocotools.mask")
    for file in (*root.glob("*.png"), *root.glob("*.json")):
        file.unlink()
    document = {
        "images": [
            {"id": 0, "file_name": "images\\0a1b2c3d-cat one.png", "width": 30, "height": 20},
            {"id": 1, "file_name": "images/two.png", "width": 30, "height": 20},
        ],
        "categories": [{"id": 0, "name": "Car"}, {"id": 1, "name": "Tree"}],
        "annotations": [
            {
                "id": 0,
                "image_id": 0,
                "category_id": 1,
                "segmentation": [[2, 3, 10, 3, 10, 8, 2, 8]],
                "ignore": 0,
                "iscrowd": 0,
            }
        ],
        "info": {"version": "1.0", "contributor": "Label Studio"},
    }
    (root / "result.json").write_text(json.dumps(document))
    assert recognised(root) == "label-studio"
    dataset = built(root)
    assert dataset.classes == {1: "Car", 2: "Tree"}
    found = {id_: mask for split in masks_of(dataset).values() for id_, mask in split.items()}
    expected = np.zeros((20, 30), np.uint8)
    expected[3:8, 2:10] = 2
    assert np.array_equal(found["images/0a1b2c3d-cat one"], expected)
    (root / "result.json").write_text(json.dumps(document)[:200])
    with pytest.raises(Exception, match=r"result\.json: line 1, column"):
        built(root)


def test_masks_of_what_the_project_does_not_have(root: Path, refuse) -> None:
    stray = root / "task-9-annotation-1-by-1-tag-Car-0.png"
    brush(root, stray.name, np.s_[2:9], np.s_[2:9])
    refuse(root, "label-studio", stray.name, "task 9")
    stray = stray.rename(root / "task-1-annotation-10-by-1-tag-Boat-0.png")
    refuse(root, "label-studio", stray.name, "annotation 10", "no such label")
    stray = stray.rename(root / "task-1-annotation-10-by-1.png")
    refuse(root, "label-studio", stray.name, "not named as")


def test_two_annotations_of_a_task(root: Path, refuse) -> None:
    file = next(root.glob("*.json"))
    tasks = json.loads(file.read_text())
    tasks[1]["annotations"].append({"id": 21, "result": [region("Car")]})
    file.write_text(json.dumps(tasks))
    brush(root, "task-2-annotation-21-by-1-tag-Car-0.png", np.s_[2:9], np.s_[2:9])
    refuse(root, "label-studio", "task 2", "20", "21", "keep")


def test_masks_of_another_size_or_kind(root: Path, refuse) -> None:
    mask = root / "task-2-annotation-20-by-1-tag-Car-0.png"
    Image.new("L", (20, 20)).save(mask)
    refuse(root, "label-studio", mask.name, "20x20", "30x20")
    Image.new("RGB", (30, 20)).save(mask)
    refuse(root, "label-studio", mask.name, "RGB")
    mask.write_bytes(mask.read_bytes()[:60])
    refuse(root, "label-studio", mask.name, "corrupt")


def test_brushed_labels_of_two_sizes(root: Path, refuse) -> None:
    """Of a turned image either size fits, but not both."""
    exif = Image.Exif()
    exif[0x0112] = 6  # turned: masks of the stored size fit as those of the upright one do
    Image.new("RGB", (30, 20)).save(root / "images/0a1b2c3d-cat one.png", exif=exif)
    Image.new("L", (20, 30)).save(root / "task-1-annotation-10-by-me@example.org-tag-Car-1.png")
    refuse(root, "label-studio", "task 1", "differ in size")


def test_images_and_lists_that_are_missing(root: Path, refuse, tmp_path: Path) -> None:
    (root / "images/two.png").unlink()
    refuse(root, "label-studio", "task 2", "two.png", "images")
    file = next(root.glob("*.json"))
    text = file.read_text()
    file.write_text(text[:100])
    refuse(root, "label-studio", file.name, "line 1, column")
    file.write_text("{}")
    refuse(root, "label-studio", file.name, "no list of tasks")
    for place in ("nothing", "//[x/a.png"):
        file.write_text(text.replace(UPLOAD, place))
        refuse(root, "label-studio", "task 1", "0 images")
    file.write_text(text.replace(UPLOAD, "/" + "a" * 300 + ".png"))
    refuse(root, "label-studio", "task 1", "aaaa", "put it there")
    tasks = json.loads(text)
    tasks[0]["annotations"][0]["result"] = 5
    file.write_text(json.dumps(tasks))
    refuse(root, "label-studio", "task 1", "'result'")
    file.unlink()
    refuse(root, "label-studio", "0 files *.json")
    refuse(root, "label-studio", "no splits", train="a")
    refuse(root / "images", "label-studio", "result.json")
