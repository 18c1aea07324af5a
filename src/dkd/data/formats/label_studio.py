"""``label-studio``: what Label Studio exports: brushed masks as PNG, or COCO.

* Brush: a PNG for each label of a task, ``task-1-annotation-2-by-3-tag-Car-0.png``, whose levels
  from 128 on are the label's; the images in ``images``; and the project's JSON export, which tells
  which image a task is of and which labels there are.
* COCO: ``result.json`` with the images in ``images``.

Neither has splits: a fifth of the images is for validation.
"""

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import numpy as np
from PIL import Image

from dkd.data import images
from dkd.data.formats import coco, documents, drawing
from dkd.data.formats.drawing import Shape
from dkd.data.formats.layout import (
    NO_CLASSES,
    Finding,
    Format,
    Layout,
    Made,
    Pair,
    made_layout,
    numbered,
    split_of,
    there,
)
from dkd.errors import UserError
from dkd.scenario.names import alike, class_name
from dkd.scenario.tasks import VOID

_COCO = "result.json"
_BRUSHED = "task-*-annotation-*-by-*.png"
_NAME = re.compile(r"task-(\d+)-annotation-(\d+)-by-(.*-.+)-(\d+)\.png")
_FULL = 128  # a brush's level from which on a pixel is its label's; edges are softened


def read(root: Path, train: str, validation: str) -> Layout:
    """The layout of an export."""
    if (train, validation) != ("train", "val"):
        raise UserError(f"{root}: an export of Label Studio has no splits; leave out their names")
    if (root / _COCO).is_file():
        folders = (root, root / "images")
        return coco.layout_of(root, {"": root / _COCO}, {"": folders}, "label-studio")
    brushed = _brushed(root)
    if not brushed:
        raise UserError(
            f"{root}: neither {_COCO} nor {_BRUSHED}; export the project from Label Studio as "
            "COCO, or as brush labels to PNG"
        )
    file, tasks = _tasks(root)
    by_task = _by_task(brushed, tasks, file)
    labels = sorted({label for each in by_task.values() for _, label in each}, key=alike)
    values = numbered(labels, file)
    pairs, made = [], {}
    for task, image in tasks.items():
        path = _image(root, image, f"{file}: task {task}")
        id_ = Path(path).stem
        pairs.append(Pair(id_, path, f"masks/{id_}.png"))
        made[f"masks/{id_}.png"] = _mask(
            f"{file}: task {task}", root / path, by_task.get(task, ()), values
        )
    empty = tuple(str(task) for task in tasks if task not in by_task)
    what = "tasks without a brushed label, taken as holding nothing"
    findings = [Finding(what, empty)] if empty else []
    classes = {value: label for label, value in values.items() if label not in NO_CLASSES}
    splits = {"": split_of(pairs, str(file))}
    return made_layout(root, "label-studio", classes, splits, made, findings, file)


def _brushed(root: Path) -> list[Path]:
    return sorted({*root.glob(_BRUSHED), *root.glob(f"*/{_BRUSHED}")})


def _tasks(root: Path) -> tuple[Path, dict[int, tuple[str, dict[int, list[str]]]]]:
    """The JSON export, and of each task its image and the labels of its annotations."""
    files = sorted(root.glob("*.json"))
    if len(files) != 1:
        raise UserError(
            f"{root}: {len(files)} files *.json; the project's JSON export, and no other, tells "
            "which image a task is of"
        )
    file = files[0]
    document = documents.load(file)
    if not isinstance(document, list):
        raise UserError(f"{file}: no list of tasks; export the project as JSON")
    tasks: dict[int, tuple[str, dict[int, list[str]]]] = {}
    for number, row in enumerate(document):
        place = f"{file}: task number {number + 1}"
        task = documents.whole(documents.table(row, place), "id", place)
        place = f"{file}: task {task}"
        if task in tasks:
            raise UserError(f"{place} appears twice; export the project again")
        found = _image_field(row, place)
        annotations = {
            documents.whole(each, "id", place): sorted(set(_labels(each, place)))
            for each in documents.rows(row, "annotations", place)
        }
        tasks[task] = (found, annotations)
    return file, tasks


def _image_field(row: Mapping[str, Any], place: str) -> str:
    """The image of a task as its data have it: a path or URL."""
    data = documents.table(row.get("data"), f"{place}: data")
    paths = [value for value in data.values() if isinstance(value, str) and "/" in value]
    images_ = [p for p in paths if Path(_file_name(p)).suffix.lower() in images.IMAGE_SUFFIXES]
    if len(images_) != 1:
        raise UserError(f"{place}: data names {len(images_)} images; one is needed")
    return images_[0]


def _labels(annotation: Mapping[str, Any], place: str) -> Iterator[str]:
    """Names of an annotation's brushed regions as files have them: the tool's, then the labels."""
    for result in documents.rows(annotation, "result", place):
        value = result.get("value")
        if isinstance(value, dict) and "rle" in value:
            for key in ("brushlabels", "labels"):
                if isinstance(value.get(key), list):
                    yield f"{result.get('from_name', '')}\0{'-'.join(map(str, value[key]))}"


def _by_task(
    brushed: Sequence[Path], tasks: Mapping[int, tuple[str, dict[int, list[str]]]], file: Path
) -> dict[int, list[tuple[Path, str]]]:
    """Masks with their labels, by task."""
    found: dict[int, list[tuple[Path, str]]] = {}
    whose: dict[int, int] = {}
    for path in brushed:
        match = _NAME.fullmatch(path.name)
        if match is None:
            raise UserError(
                f"{path}: not named as Label Studio names a brushed label: "
                "task-1-annotation-2-by-3-tag-Car-0.png"
            )
        task, annotation, ending = int(match[1]), int(match[2]), match[3]
        if task not in tasks:
            raise UserError(f"{path}: of task {task}, which {file} lacks; export both again")
        known = {
            re.sub(r"[\0/\\]", "-", each): each.split("\0")[1]
            for each in tasks[task][1].get(annotation, ())
        }
        # The annotator, whose address may have hyphens too, comes before.
        name = max((each for each in known if ending.endswith(f"-{each}")), key=len, default=None)
        if name is None:
            raise UserError(
                f"{path}: {file} has no such label of annotation {annotation} of task {task}; "
                "export both again"
            )
        if whose.setdefault(task, annotation) != annotation:
            raise UserError(
                f"{path}: task {task} has brushed labels of the annotations {whose[task]} and "
                f"{annotation}; keep the files of one"
            )
        label = known[name]
        try:
            label = label if label in NO_CLASSES else class_name(label)
        except UserError as error:
            raise UserError(f"{path}: {error}") from None
        found.setdefault(task, []).append((path, label))
    return found


def _file_name(place: str) -> str:
    """The last part of a path or URL; images of a local storage are named in a query (``?d=``)."""
    try:
        parts = urlsplit(place)
    except ValueError:
        return ""
    inner = parse_qs(parts.query).get("d", [parts.path])[0]
    return unquote(inner).replace("\\", "/").rsplit("/", 1)[-1]


def _image(root: Path, task: tuple[str, dict[int, list[str]]], place: str) -> str:
    """The image's path below the root: Label Studio puts eight characters before uploads' names."""
    name = _file_name(task[0])
    for candidate in (name, re.sub(r"^[0-9a-f]{8}-", "", name)):
        for folder in ("images", ""):
            if there(root / folder / candidate):
                return f"{folder}/{candidate}".lstrip("/")
    raise UserError(f"{place}: its image {name} is not in {root / 'images'}; put it there")


def _mask(
    place: str,
    image: Path,
    brushed: Sequence[tuple[Path, str]],
    values: Mapping[str, int],
) -> Made:
    def stamp() -> str:
        about = hashlib.sha256(f"{VOID}".encode())
        for path, label in brushed:
            at = path.stat()
            about.update(f"{path.name} {values[label]} {at.st_size} {at.st_mtime_ns} ".encode())
        at = image.stat()
        about.update(f"{at.st_size} {at.st_mtime_ns}".encode())
        return about.hexdigest()

    def data(unlabelled: int) -> bytes:
        frame = images.frame_in(image)
        shapes, sizes = [], set()
        for path, label in brushed:
            level = _level(path)
            height, width = level.shape
            if frame.fit((width, height)) is None:
                seen, high = frame.upright
                raise UserError(
                    f"{path}: the mask is {width}x{height} but the image {image.name} is "
                    f"{seen}x{high}; make them the same size"
                )
            sizes.add((width, height))
            shapes.append(Shape(values[label], drawing.of_mask(level >= _FULL)))
        if len(sizes) > 1:
            raise UserError(f"{place}: its brushed labels differ in size; export it again")
        width, height = sizes.pop() if sizes else frame.upright
        return drawing.draw(shapes, width, height, unlabelled)

    return Made(place, stamp, data)


def _level(path: Path) -> np.ndarray[Any, np.dtype[np.uint8]]:
    data = images.read_file(path, "mask")
    images.verify(data, path, "mask")
    with Image.open(path, formats=("PNG",)) as picture:
        if picture.mode != "L":
            raise UserError(f"{path}: {picture.mode} pixels; a brushed label is 8-bit grey")
        return np.array(picture)


def recognises(root: Path) -> bool:
    return (root / _COCO).is_file() or bool(_brushed(root))


FORMAT = Format("label-studio", "train", "val", read, recognises, annotated=True)
