"""``yolo``: polygons in a text file for every image, as Ultralytics' YOLO is trained on them.

``data.yaml`` names the classes and where the images of each split lie: a folder, or a text file
with their paths. The labels of ``.../images/.../ID.jpg`` are in ``.../labels/.../ID.txt``, a line
for each polygon: number of the class (from 0), then x and y of its corners by turns, as parts of
width and height. An image without such a file holds nothing.
"""

import hashlib
import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import Any

from dkd.data import images
from dkd.data.formats import documents, drawing
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
from dkd.scenario import strict_yaml
from dkd.scenario.names import class_name

_FILES = ("data.yaml", "data.yml", "dataset.yaml")


def read(root: Path, train: str, validation: str) -> Layout:
    """The layout of a folder with ``data.yaml``; splits are its fields."""
    drawing.require_drawing()
    file = _file(root)
    if file is None:
        raise UserError(f"{root / _FILES[0]}: missing; it names the classes and the splits")
    document = documents.table(strict_yaml.load(file.read_bytes(), str(file)) or {}, str(file))
    names = _names(document, file)
    by_name = numbered(list(names.values()), file)
    values = {number: by_name[name] for number, name in names.items()}
    splits: dict[str, tuple[Pair, ...]] = {}
    made: dict[str, Made] = {}
    unlabelled: list[str] = []
    lonely: list[str] = []
    for split, field in (("train", train), ("validation", validation)):
        if split == "validation" and field == "val" and not document.get(field):
            splits = {"": splits["train"]}
            continue
        pairs = []
        for path in _images(root, document, field, file):
            label = _label(root / path)
            id_ = str(PurePosixPath(path).with_suffix("")).removeprefix("images/")
            pair = Pair(id_, path, f"masks/{PurePosixPath(path).with_suffix('.png')}")
            if not there(label):
                unlabelled.append(path)
            pairs.append(pair)
            made[pair.mask] = _mask(root / path, label, values)
        lonely += _lonely(root, [root / pair.image for pair in pairs])
        splits[split] = split_of(pairs, f"{file}: {field}")
    findings = []
    if unlabelled:
        what = "images without a file of labels, taken as holding nothing"
        findings.append(Finding(what, tuple(unlabelled)))
    if lonely:
        findings.append(Finding("files of labels without an image", tuple(lonely)))
    classes = {value: name for name, value in by_name.items() if name not in NO_CLASSES}
    return made_layout(root, "yolo", classes, splits, made, findings, file)


def _file(root: Path) -> Path | None:
    return next((root / name for name in _FILES if (root / name).is_file()), None)


def _names(document: Mapping[str, Any], file: Path) -> dict[int, str]:
    """Names by number, in the order of numbers."""
    given = document.get("names")
    listed = dict(enumerate(given)) if isinstance(given, list) else given
    if not isinstance(listed, dict) or not listed:
        raise UserError(f"{file}: names: no class; write a line 'NUMBER: name' for every class")
    names: dict[int, str] = {}
    for number, name in listed.items():
        if type(number) is not int or number < 0:
            raise UserError(f"{file}: names: {number!r} is not a class number; count from 0")
        try:
            # A class called 7, or 2024, is a number to YAML.
            name = str(name) if type(name) is int else name
            names[number] = name if name in NO_CLASSES else class_name(name)
        except (UserError, TypeError, AttributeError):
            raise UserError(f"{file}: names: {number}: {name!r} is not a class name") from None
    count = document.get("nc", len(names))
    if count != len(names):
        raise UserError(f"{file}: nc: {count} classes, but {len(names)} names; correct one of them")
    return dict(sorted(names.items()))


def _images(root: Path, document: Mapping[str, Any], field: str, file: Path) -> list[str]:
    """Paths below the root."""
    given = document.get(field)
    listed = given if isinstance(given, list) else [given]
    entries = [entry for entry in listed if isinstance(entry, str) and entry]
    if not entries or len(entries) < len(listed):
        have = ", ".join(k for k in ("train", "val", "test") if document.get(k)) or "none"
        raise UserError(f"{file}: {field}: names no images; there is {have}")
    paths: list[str] = []
    for entry in entries:
        place = _place(root, document, entry)
        if place is None:
            raise UserError(f"{file}: {field}: {entry} is neither a folder nor a list below {root}")
        if place.is_dir():
            found = [
                path
                for path in sorted(place.rglob("*"))
                if path.suffix.lower() in images.IMAGE_SUFFIXES and not path.name.startswith(".")
            ]
        else:
            found = _listed(place)
        for path in found:
            if not path.is_relative_to(root) or ".." in path.parts:
                raise UserError(f"{file}: {field}: {path} leads outside {root}; correct it")
            if path.suffix.lower() not in images.IMAGE_SUFFIXES:
                raise UserError(
                    f"{file}: {field}: {path} is not an image (JPEG, PNG, TIFF, WebP); remove it"
                )
            paths.append(path.relative_to(root).as_posix())
    return paths


def _place(root: Path, document: Mapping[str, Any], entry: str) -> Path | None:
    """A folder or list, where the tools that read these files would find it."""
    above = document.get("path")
    # Roboflow writes paths as seen from a folder that it does not ship.
    entries = [entry, entry.removeprefix("../")]
    folders = [root / above, root] if isinstance(above, str) else [root]
    for folder in folders:
        for name in entries:
            place = folder / name
            with suppress(OSError):  # a name that no file can have
                if place.exists() and place.is_relative_to(root) and ".." not in place.parts:
                    return place
    return None


def _listed(file: Path) -> list[Path]:
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{file}: cannot be read as text: {error}") from None
    return [file.parent / line.strip() for line in lines if line.strip()]


def _label(image: Path) -> Path:
    """Where the labels of an image are: the last folder ``images`` above it becomes ``labels``."""
    parts = list(image.parts)
    for position in range(len(parts) - 2, -1, -1):
        if parts[position] == "images":
            parts[position] = "labels"
            break
    return Path(*parts).with_suffix(".txt")


def _lonely(root: Path, pictures: Sequence[Path]) -> list[str]:
    """Files of labels, beside those of these images, that belong to none of them."""
    labels = {_label(picture) for picture in pictures}
    folders = sorted({label.parent for label in labels})
    found = [file for folder in folders for file in sorted(folder.glob("*.txt"))]
    return [file.relative_to(root).as_posix() for file in found if file not in labels]


def _mask(image: Path, label: Path, values: Mapping[int, int]) -> Made:
    def stamp() -> str:
        size = image.stat() if there(image) else None
        about = hashlib.sha256("\n".join(_lines(label)).encode() if there(label) else b"")
        about.update(f"{values} {size and (size.st_size, size.st_mtime_ns)}".encode())
        return about.hexdigest()

    def data(unlabelled: int) -> bytes:
        width, height = images.frame_in(image).upright
        shapes = []
        for number, line in enumerate(_lines(label), start=1):
            if line.strip():
                shapes.append(_shape(line, width, height, values, f"{label}: line {number}"))
        return drawing.draw(shapes, width, height, unlabelled)

    return Made(str(label), stamp, data)


def _lines(label: Path) -> list[str]:
    try:
        return label.read_text(encoding="utf-8-sig").splitlines()
    except FileNotFoundError:
        return []
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{label}: cannot be read as text: {error}") from None


def _shape(line: str, width: int, height: int, values: Mapping[int, int], place: str) -> Shape:
    try:
        class_, *numbers = (float(word) for word in line.split())
    except ValueError:
        raise UserError(f"{place} is not NUMBER X Y X Y ...") from None
    if class_ not in values:
        raise UserError(f"{place} is of class {class_:g}, which data.yaml does not name")
    if len(numbers) == 4:
        raise UserError(
            f"{place} is a box, and boxes are not masks; export polygons (segmentation)"
        )
    if not all(math.isfinite(x) and -0.01 <= x <= 1.01 for x in numbers):
        raise UserError(
            f"{place}: a corner lies outside the image; give fractions of width and height, 0..1"
        )
    points = [min(max(x, 0.0), 1.0) * (height if i % 2 else width) for i, x in enumerate(numbers)]
    polygon = drawing.checked_polygon(points, width, height, place)
    return Shape(values[int(class_)], drawing.of_polygons([polygon], width, height, place))


def recognises(root: Path) -> bool:
    return _file(root) is not None


FORMAT = Format("yolo", "train", "val", read, recognises, annotated=True)
