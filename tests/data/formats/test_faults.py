"""What may be wrong with a data set, format by format: one line, with the file and the place.

Each row of the table takes a small data set that is in order, does one thing to it, and says what
the line has to name.
"""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from fixtures.data_sets import make_ade20k, make_voc
from PIL import Image

from dkd.data import formats, index
from dkd.scenario.data import Data

WIDTH, HEIGHT = 32, 24
RED, BLUE = (250, 50, 83), (36, 179, 83)
Change = Callable[[Path], object]


def photograph(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    levels = np.random.default_rng(list(path.name.encode())).integers(0, 256, (HEIGHT, WIDTH, 3))
    Image.fromarray(levels.astype(np.uint8)).save(path)


def picture(path: Path, values: np.ndarray | None = None) -> None:
    """A mask, half of it the first class and half the second unless it is given."""
    path.parent.mkdir(parents=True, exist_ok=True)
    mask = np.repeat([[1], [2]], HEIGHT // 2, axis=0).repeat(WIDTH, axis=1)
    Image.fromarray((mask if values is None else values).astype(np.uint8)).save(path)


def put(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def cut(name: str) -> Change:
    """Of a file, the first half is left."""
    return lambda root: (root / name).write_bytes((root / name).read_bytes()[:-(10)])


def changed(name: str, change: Callable[[dict], object]) -> Change:
    """JSON of which something is another."""

    def write(root: Path) -> None:
        document = json.loads((root / name).read_text())
        change(document)
        (root / name).write_text(json.dumps(document))

    return write


def another_size(name: str) -> Change:
    return lambda root: Image.open(root / name).resize((WIDTH, 20)).save(root / name)


def spot(name: str, value: int | tuple[int, ...], pixels: int = 3) -> Change:
    """A mask of which some pixels have another value or colour."""

    def write(root: Path) -> None:
        with Image.open(root / name) as picture:
            palette, levels = picture.getpalette(), np.array(picture)
        levels[0, :pixels] = value
        made = Image.fromarray(levels)
        if palette:
            made.putpalette(palette)
        made.save(root / name)

    return write


def voc(root: Path) -> None:
    make_voc(root, 2, 2)


def ade20k(root: Path) -> None:
    make_ade20k(root, 2, 2)


def folder(root: Path) -> None:
    for split in ("train", "validation"):
        photograph(root / f"images/{split}/a.png")
        picture(root / f"masks/{split}/a.png")
    put(root / "classes.yaml", "1: car\n2: bus\n")


def coloured(root: Path) -> None:
    folder(root)
    for split in ("train", "validation"):
        levels = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
        levels[:5], levels[5:9] = RED, BLUE
        picture(root / f"masks/{split}/a.png", levels)
    put(
        root / "classes.yaml",
        "1: {name: car, colour: [250, 50, 83]}\n2: {name: bus, colour: [36, 179, 83]}\n",
    )


def coco(root: Path) -> None:
    for split in ("train", "val"):
        photograph(root / f"images/{split}/a.png")
        document = {
            "images": [{"id": 7, "file_name": "a.png", "width": WIDTH, "height": HEIGHT}],
            "categories": [{"id": 1, "name": "car"}, {"id": 2, "name": "bus"}],
            "annotations": [
                {
                    "id": 31,
                    "image_id": 7,
                    "category_id": 2,
                    "segmentation": [[2, 2, 9, 2, 9, 9, 2, 9]],
                }
            ],
        }
        put(root / f"annotations/instances_{split}.json", json.dumps(document))


def label_studio(root: Path) -> None:
    tasks = []
    for number in (1, 2):
        photograph(root / f"images/{number}.png")
        region = {"from_name": "tag", "type": "brushlabels"}
        region["value"] = {"format": "rle", "rle": [0], "brushlabels": ["Car"]}
        annotation = {"id": 10 * number, "result": [region]}
        data = {"image": f"/data/upload/1/{number}.png"}
        tasks.append({"id": number, "annotations": [annotation], "data": data})
        name = f"task-{number}-annotation-{10 * number}-by-1-tag-Car-0.png"
        picture(root / name, np.full((HEIGHT, WIDTH), 255))
    put(root / "project-1.json", json.dumps(tasks))


def label_studio_coco(root: Path) -> None:
    coco(root / "other")
    document = json.loads((root / "other/annotations/instances_train.json").read_text())
    document["info"] = {"contributor": "Label Studio"}
    document["images"] = [
        {**document["images"][0], "id": id_, "file_name": f"images/{name}.png"}
        for id_, name in ((7, "a"), (8, "b"))
    ]
    put(root / "result.json", json.dumps(document))
    for name in "ab":
        photograph(root / f"images/{name}.png")


def yolo(root: Path) -> None:
    for split in ("train", "val"):
        photograph(root / f"images/{split}/a.png")
        put(root / f"labels/{split}/a.txt", "0 0.1 0.1 0.4 0.1 0.4 0.4\n1 0.5 0.5 1 0.5 1 1\n")
    put(root / "data.yaml", "train: images/train\nval: images/val\nnc: 2\nnames: [car, bus]\n")


def cvat(root: Path) -> None:
    for split, name in (("train", "a"), ("val", "b")):
        photograph(root / f"JPEGImages/{name}.png")
        levels = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
        levels[:5], levels[5:9] = RED, BLUE
        picture(root / f"SegmentationClass/{name}.png", levels)
        put(root / f"ImageSets/Segmentation/{split}.txt", f"{name}\n")
    put(root / "labelmap.txt", "background:0,0,0::\ncar:250,50,83::\nbus:36,179,83::\n")


def cityscapes(root: Path) -> None:
    for split in ("train", "val"):
        photograph(root / f"leftImg8bit/{split}/ulm/ulm_0_leftImg8bit.png")
        picture(root / f"gtFine/{split}/ulm/ulm_0_gtFine_labelIds.png", np.full((HEIGHT, WIDTH), 7))


def hugging_face(root: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    from pyarrow import ipc

    for split in ("train", "validation"):
        photograph(root / "image.png")
        picture(root / "mask.png")
        columns = {"image": "image.png", "annotation": "mask.png"}
        row = {k: {"bytes": (root / v).read_bytes(), "path": None} for k, v in columns.items()}
        table = pa.Table.from_pylist([row])
        (root / split).mkdir()
        with ipc.new_stream(root / split / "data-00000-of-00001.arrow", table.schema) as writer:
            writer.write_table(table)
        files = [{"filename": "data-00000-of-00001.arrow"}]
        put(root / split / "state.json", json.dumps({"_data_files": files, "_split": split}))
    put(root / "dataset_dict.json", '{"splits": ["train", "validation"]}')
    put(root / "id2label.json", '{"0": "background", "1": "car", "2": "bus"}')


def rows_of(value: np.ndarray) -> Change:
    """Masks of a data set of Hugging Face that are another."""

    def write(root: Path) -> None:
        import pyarrow as pa
        from pyarrow import ipc

        file = root / "train/data-00000-of-00001.arrow"
        (row,) = ipc.open_stream(file.read_bytes()).read_all().to_pylist()
        picture(root / "mask.png", value)
        row["annotation"]["bytes"] = (root / "mask.png").read_bytes()
        table = pa.Table.from_pylist([row])
        with ipc.new_stream(file, table.schema) as writer:
            writer.write_table(table)

    return write


TRAIN, VAL = "annotations/instances_train.json", "annotations/instances_val.json"
MASK, LABELS = "SegmentationClass/a.png", "gtFine/train/ulm/ulm_0_gtFine_labelIds.png"
BRUSHED = "task-2-annotation-20-by-1-tag-Car-0.png"


def first(name: str, **fields: object) -> Change:
    return changed(name, lambda document: document["annotations"][0].update(fields))


TABLE: list[tuple[Callable[[Path], None], str, Change, list[str]]] = [
    (coco, "truncated JSON", cut(VAL), [VAL, "line 1, column"]),
    (
        coco,
        "polygon outside the image",
        first(TRAIN, segmentation=[[2, 2, 99, 2, 9, 9]]),
        [f"{TRAIN}: annotation 31", "99,2", "outside the image"],
    ),
    (
        coco,
        "RLE of the wrong length",
        first(TRAIN, segmentation={"size": [HEIGHT, WIDTH], "counts": [5, 6]}),
        [f"{TRAIN}: annotation 31", "11 pixels", "32x24"],
    ),
    (coco, "unknown category", first(VAL, category_id=9), [f"{VAL}: annotation 31", "category 9"]),
    (coco, "unknown image", first(VAL, image_id=9), [f"{VAL}: annotation 31", "image 9"]),
    (
        coco,
        "label maps that disagree",
        changed(VAL, lambda d: d["categories"][0].update(name="tram")),
        [f"{VAL}: category 1", "'tram'", "'car'", TRAIN],
    ),
    (
        coco,
        "image of another size",
        changed(TRAIN, lambda d: d["images"][0].update(height=20)),
        [f"{TRAIN}: image 7", "32x20", "a.png is 32x24"],
    ),
    (label_studio, "truncated JSON", cut("project-1.json"), ["project-1.json: line 1, column"]),
    (
        label_studio,
        "mask of an unknown task",
        lambda root: picture(root / "task-9-annotation-1-by-1-tag-Car-0.png"),
        ["task-9-annotation-1-by-1-tag-Car-0.png", "task 9"],
    ),
    (
        label_studio,
        "unknown label",
        lambda root: picture(root / "task-2-annotation-20-by-1-tag-Boat-0.png"),
        ["task-2-annotation-20-by-1-tag-Boat-0.png", "no such label"],
    ),
    (label_studio, "mask of another size", another_size(BRUSHED), [BRUSHED, "32x20", "32x24"]),
    (
        label_studio_coco,
        "polygon outside the image",
        first("result.json", segmentation=[[2, 2, 99, 2, 9, 9]]),
        ["result.json: annotation 31", "outside the image"],
    ),
    (
        label_studio_coco,
        "RLE of the wrong length",
        first("result.json", segmentation={"size": [HEIGHT, WIDTH], "counts": "l38`0"}),
        ["result.json: annotation 31", "pixels"],
    ),
    (
        label_studio_coco,
        "unknown category",
        first("result.json", category_id=9),
        ["result.json: annotation 31", "category 9"],
    ),
    (
        yolo,
        "truncated data.yaml",
        cut("data.yaml"),
        ["data.yaml: not YAML: line 4"],
    ),
    (
        yolo,
        "polygon outside the image",
        lambda root: put(root / "labels/train/a.txt", "0 0 0 1.5 0 1 1\n"),
        ["labels/train/a.txt: line 1", "outside"],
    ),
    (
        yolo,
        "unknown class",
        lambda root: put(root / "labels/val/a.txt", "1 0 0 1 0 1 1\n2 0 0 1 0 1 1\n"),
        ["labels/val/a.txt: line 2", "class 2"],
    ),
    (
        yolo,
        "names and their number disagree",
        lambda root: put(root / "data.yaml", "train: images/train\nnc: 3\nnames: [car, bus]\n"),
        ["data.yaml: nc: 3 classes, but 2 names"],
    ),
    (cvat, "colour that is no class", spot(MASK, (1, 2, 3)), [MASK, "3 pixels", "1,2,3"]),
    (cvat, "mask of another size", another_size(MASK), [MASK, "32x20", "32x24"]),
    (
        cvat,
        "two labels of a colour",
        lambda root: put(root / "labelmap.txt", "car:250,50,83::\nbus:250,50,83::\n"),
        ["labelmap.txt", "250,50,83 is the colour of"],
    ),
    (
        cvat,
        "line of another form",
        lambda root: put(root / "labelmap.txt", "car:250,50,83::\nbus:36,1"),
        ["labelmap.txt: line 2"],
    ),
    (cityscapes, "mask of another size", another_size(LABELS), [LABELS, "32x20", "32x24"]),
    (cityscapes, "value that is no class", spot(LABELS, 77), [LABELS, "77"]),
    (
        cityscapes,
        "image without a mask",
        lambda root: (root / LABELS).unlink(),
        [LABELS, "the mask is missing"],
    ),
    (folder, "truncated classes.yaml", lambda root: put(root / "classes.yaml", "1: car\n2: {na"), [
        "classes.yaml: not YAML: line 2"]),
    (folder, "value that is no class", spot("masks/train/a.png", 9), ["masks/train/a.png", "9"]),
    (folder, "mask of another size", another_size("masks/train/a.png"), [
        "masks/train/a.png", "32x20", "32x24"]),
    (coloured, "colour that is no class", spot("masks/train/a.png", (9, 9, 9), 4), [
        "masks/train/a.png", "4 pixels", "9,9,9"]),
    (hugging_face, "truncated JSON", cut("train/state.json"), ["train/state.json: line 1"]),
    (hugging_face, "truncated names", cut("id2label.json"), ["id2label.json: line 1"]),
    (
        hugging_face,
        "truncated Arrow",
        cut("train/data-00000-of-00001.arrow"),
        ["train/data-00000-of-00001.arrow", "damaged"],
    ),
    (
        hugging_face,
        "label maps that disagree",
        lambda root: put(root / "classes.yaml", "1: car\n2: tram\n"),
        ["id2label.json: value 2 is named 'bus' there, but 'tram' in classes.yaml"],
    ),
    (
        hugging_face,
        "rows that were selected",
        changed(
            "train/state.json",
            lambda d: d.update(_indices_data_files=[{"filename": "indices.arrow"}]),
        ),
        ["train/state.json", "flatten_indices()"],
    ),
    (
        hugging_face,
        "mask of another size",
        rows_of(np.ones((20, WIDTH))),
        ["data-00000-of-00001.arrow: row 0, annotation", "32x20", "32x24"],
    ),
    (
        hugging_face,
        "value that is no class",
        rows_of(np.full((HEIGHT, WIDTH), 9)),
        ["data-00000-of-00001.arrow: row 0, annotation", "value 9"],
    ),
]  # fmt: skip
NAMES = {coloured: "folder", hugging_face: "hf"}
NAMES |= {label_studio: "label-studio", label_studio_coco: "label-studio"}


@pytest.mark.parametrize(
    ("write", "change", "words"),
    [(write, change, words) for write, _, change, words in TABLE],
    ids=[f"{write.__name__}: {fault}" for write, fault, *_ in TABLE],
)
def test_a_fault_is_told_in_one_line(
    tmp_path: Path, refuse, write: Callable[[Path], None], change: Change, words: list[str]
) -> None:
    root = tmp_path / "data"
    root.mkdir()
    write(root)
    change(root)
    refuse(root, NAMES.get(write, write.__name__), *words)


@pytest.mark.parametrize("write", dict.fromkeys(write for write, *_ in TABLE))
def test_without_a_fault_it_is_read(tmp_path: Path, write: Callable[[Path], None]) -> None:
    root = tmp_path / "data"
    root.mkdir()
    write(root)
    name = NAMES.get(write, write.__name__)
    index.build(Data.model_validate({"format": name, "root": str(root)}), tmp_path / "cache")


@pytest.mark.parametrize(
    ("write", "format_"), [(voc, "voc"), (ade20k, "ade20k")], ids=["voc", "ade20k"]
)
def test_masks_of_published_data_sets(
    tmp_path: Path, refuse, write: Callable[[Path], None], format_: str
) -> None:
    root = tmp_path / "data"
    write(root)
    data = Data.model_validate({"format": format_, "root": str(root)})
    mask = formats.read(data).splits["train"][0].mask
    before = (root / mask).read_bytes()
    spot(mask, 200)(root)
    refuse(root, format_, mask, "200")
    (root / mask).write_bytes(before)
    another_size(mask)(root)
    refuse(root, format_, mask, "32x20")
    (root / mask).write_bytes(before[: len(before) // 2])
    refuse(root, format_, mask, "corrupt")


def test_labels_without_an_image_are_told(tmp_path: Path) -> None:
    yolo(tmp_path)
    put(tmp_path / "labels/train/other.txt", "0 0 0 1 0 1 1\n")
    layout = formats.read(Data(format="yolo", root=str(tmp_path)))
    assert "1 files of labels without an image: labels/train/other.txt" in map(str, layout.findings)
