"""``coco``: COCO's instances (polygons, run lengths), as COCO, CVAT and Roboflow lay them out.

``annotations/instances_SPLIT.json`` (or ``SPLIT.json``) with images in ``images/SPLIT``, ``SPLIT``
or ``images``; or ``SPLIT/_annotations.coco.json`` beside the images. ``train2017`` is a train
split, ``valid`` and ``val2017`` are validation splits; a single list is divided. Categories are
numbered from 1 in the order of their ids, whatever gaps these have.
"""

import hashlib
from collections import defaultdict
from collections.abc import Container, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

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
from dkd.scenario.names import class_name
from dkd.scenario.tasks import VOID

_ALONGSIDE = "_annotations.coco.json"
_OTHER_KINDS = ("captions_", "image_info_", "labels_", "panoptic_", "person_keypoints_", "stuff_")
_ALIKE = {
    "train": ("train", "train2017", "train2014"),
    "val": ("val", "valid", "validation", "val2017", "val2014"),
}


def read(root: Path, train: str, validation: str) -> Layout:
    """The layout of a folder with annotations in COCO's JSON."""
    lists = _lists(root)
    if not lists:
        raise UserError(
            f"{root}: no annotations/instances_SPLIT.json and no SPLIT/{_ALONGSIDE}; is this the "
            "folder of a COCO data set?"
        )
    if len(lists) == 1 and (train, validation) == ("train", "val"):
        name, file = next(iter(lists.items()))
        return layout_of(root, {"": file}, {"": _folders(root, name, file)}, "coco")
    files = {
        "train": _find(root, lists, train),
        "validation": _find(root, lists, validation),
    }
    folders = {
        split: _folders(root, file.parent.name if file.name == _ALONGSIDE else name, file)
        for split, (name, file) in files.items()
    }
    return layout_of(root, {split: file for split, (_, file) in files.items()}, folders, "coco")


def layout_of(
    root: Path, files: Mapping[str, Path], folders: Mapping[str, Sequence[Path]], format_: str
) -> Layout:
    """The layout of annotation files.

    Args:
        root: the data set's folder.
        files: by split; one without a split (``""``) is divided.
        folders: where the images of each may lie, the most likely first.
        format_: the format's name.

    Raises:
        UserError: a file is damaged, or says what cannot be.
    """
    drawing.require_drawing()
    documents_ = {split: documents.table(documents.load(f), str(f)) for split, f in files.items()}
    names, findings = _categories({files[split]: each for split, each in documents_.items()})
    source = next(iter(files.values()))
    by_name = numbered([name for _, name in sorted(names.items())], source)
    values = {id_: by_name[name] for id_, name in names.items()}
    splits: dict[str, tuple[Pair, ...]] = {}
    made: dict[str, Made] = {}
    for split, document in documents_.items():
        file = files[split]
        pairs, drawn = _images(root, file, document, folders[split], split, values)
        splits[split] = split_of(pairs, str(file))
        made |= drawn
    classes = {value: name for name, value in by_name.items() if name not in NO_CLASSES}
    return made_layout(root, format_, classes, splits, made, findings, source)


def _lists(root: Path) -> dict[str, Path]:
    """Annotation files by the name of their split."""
    found = {file.parent.name: file for file in sorted(root.glob(f"*/{_ALONGSIDE}"))}
    if (root / _ALONGSIDE).is_file():
        found[""] = root / _ALONGSIDE
    if found:
        return found
    files = sorted((root / "annotations").glob("*.json"))
    instances = {
        file.stem.removeprefix("instances_"): file
        for file in files
        if file.stem.startswith("instances_")
    }
    return instances or {f.stem: f for f in files if not f.stem.startswith(_OTHER_KINDS)}


def _find(root: Path, lists: Mapping[str, Path], wanted: str) -> tuple[str, Path]:
    for name in (wanted, *_ALIKE.get(wanted, ())):
        if name in lists:
            return name, lists[name]
    raise UserError(
        f"{root}: no annotations of the split {wanted!r}; there are {', '.join(sorted(lists))} "
        "(--train, --validation)"
    )


def _folders(root: Path, name: str, file: Path) -> tuple[Path, ...]:
    if file.name == _ALONGSIDE:
        return (file.parent,)
    return (root / "images" / name, root / name, root / "images", root)


def _categories(
    documents_: Mapping[Path, Mapping[str, Any]],
) -> tuple[dict[int, str], list[Finding]]:
    """Names of the categories of all files by id; files agree on them."""
    names: dict[int, str] = {}
    told: dict[int, Path] = {}
    findings = []
    for file, document in documents_.items():
        own: dict[int, str] = {}
        categories = documents.rows(document, "categories", str(file))
        parents = [category.get("supercategory") for category in categories]
        annotations = documents.rows(document, "annotations", str(file))
        used = [annotation.get("category_id") for annotation in annotations]
        for category in categories:
            place = f"{file}: category {category.get('id')!r}"
            id_ = documents.whole(category, "id", place)
            name = documents.text(category, "name", place)
            if name not in NO_CLASSES:
                try:
                    name = class_name(name)
                except UserError as error:
                    raise UserError(f"{place}: {error}") from None
            if id_ in own:
                raise UserError(f"{place} appears twice: {own[id_]!r} and {name!r}; keep one")
            if id_ == 0 and name in parents and 0 not in used:
                # Roboflow lists the name of the project so, above all of its classes.
                findings.append(
                    Finding(
                        f"category of {file.name} without annotations, the others' "
                        "supercategory: not a class",
                        (name,),
                    )
                )
                continue
            own[id_] = name
        for id_, name in own.items():
            if names.get(id_, name) != name:
                raise UserError(
                    f"{file}: category {id_} is {name!r}, but {names[id_]!r} in {told[id_]}; "
                    "export both from one project"
                )
            told.setdefault(id_, file)
        names |= own
    return names, findings


def _images(
    root: Path,
    file: Path,
    document: Mapping[str, Any],
    folders: Sequence[Path],
    split: str,
    values: Mapping[int, int],
) -> tuple[list[Pair], dict[str, Made]]:
    annotations = _annotations(file, document, values)
    pairs: list[Pair] = []
    made: dict[str, Made] = {}
    known: set[int] = set()
    folder = folders[0]
    for row in documents.rows(document, "images", str(file)):
        place = f"{file}: image {row.get('id')!r}"
        id_ = documents.whole(row, "id", place)
        if id_ in known:
            raise UserError(f"{place} appears twice; keep one")
        known.add(id_)
        # Exports from Windows have its separators.
        name = documents.text(row, "file_name", place).replace("\\", "/")
        width, height = (documents.whole(row, key, place) for key in ("width", "height"))
        if min(width, height) < 1:
            raise UserError(f"{place} is {width}x{height}; export it again")
        if not Path(name).name or name.startswith("/") or ".." in name.split("/"):
            raise UserError(f"{place}: {name} is not a file inside {root}; correct it")
        if not there(folder / name):
            folder = next((f for f in folders if there(f / name)), folder)
        path = (folder / name).relative_to(root).as_posix()
        mask = "/".join(filter(None, ("masks", split, str(Path(name).with_suffix(".png")))))
        pairs.append(Pair(str(Path(name).with_suffix("")), path, mask))
        if mask in made:
            raise UserError(f"{place}: another image is called {Path(name).stem} too; rename one")
        made[mask] = _mask(place, root / path, (width, height), annotations.pop(id_, []), values)
    for id_, rows in annotations.items():
        raise UserError(
            f"{file}: annotation {rows[0].get('id')!r} is of image {id_}, which is not listed; "
            "export it again"
        )
    return pairs, made


def _annotations(
    file: Path, document: Mapping[str, Any], categories: Container[int]
) -> dict[int, list[dict[str, Any]]]:
    """The annotations by image."""
    by_image: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for number, row in enumerate(documents.rows(document, "annotations", str(file))):
        place = _place(file, row, number)
        category = documents.whole(row, "category_id", place)
        if category not in categories:
            raise UserError(
                f"{place} is of category {category}, which is not listed; export it again"
            )
        by_image[documents.whole(row, "image_id", place)].append(_kept(row, place))
    return by_image


def _place(file: Path, row: Mapping[str, Any], number: int) -> str:
    return f"{file}: annotation {row.get('id', f'number {number + 1}')}"


def _kept(row: Mapping[str, Any], place: str) -> dict[str, Any]:
    """What is drawn; corners as numbers that take little memory, since there are many."""
    segmentation = row.get("segmentation")
    if not segmentation:
        raise UserError(
            f"{place} has no segmentation; boxes are not masks: annotate polygons, or remove it"
        )
    if isinstance(segmentation, list):
        try:
            segmentation = [np.array(points, np.float64) for points in segmentation]
        except (ValueError, TypeError, OverflowError):
            raise UserError(
                f"{place}: its segmentation is not a list of polygons x, y, x, y, ..."
            ) from None
    elif not isinstance(segmentation, dict):
        raise UserError(f"{place}: its segmentation is {documents.told(segmentation)}")
    crowd = row.get("iscrowd") or 0
    if crowd not in (0, 1):
        raise UserError(f"{place}: iscrowd is {documents.told(crowd)} instead of 0 or 1")
    return {
        "id": row.get("id"),
        "category_id": row["category_id"],
        "crowd": bool(crowd),
        "segmentation": segmentation,
        "place": place,
    }


def _mask(
    place: str,
    image: Path,
    size: tuple[int, int],
    annotations: Sequence[Mapping[str, Any]],
    values: Mapping[int, int],
) -> Made:
    width, height = size

    def stamp() -> str:
        about = hashlib.sha256(f"{width} {height} {VOID}".encode())
        for each in annotations:
            about.update(f"{values[each['category_id']]} {each['crowd']}".encode())
            drawn = each["segmentation"]
            if isinstance(drawn, dict):
                about.update(repr(sorted(drawn.items())).encode())
            else:
                for points in drawn:
                    about.update(points.tobytes() + b"|")
        return about.hexdigest()

    def data(unlabelled: int) -> bytes:
        frame = images.frame_in(image)
        if frame.fit(size) is None:
            seen, high = frame.upright
            raise UserError(
                f"{place} is {width}x{height}, but {image} is {seen}x{high}; its annotations are "
                "of another picture"
            )
        shapes = [_shape(each, width, height, values) for each in annotations]
        return drawing.draw(shapes, width, height, unlabelled)

    return Made(place, stamp, data)


def _shape(row: Mapping[str, Any], width: int, height: int, values: Mapping[int, int]) -> Shape:
    value, place = values[row["category_id"]], row["place"]
    drawn = row["segmentation"]
    if isinstance(drawn, list):
        polygons = [drawing.checked_polygon(points, width, height, place) for points in drawn]
        counts = drawing.of_polygons(polygons, width, height, place)
    else:
        size, given = drawn.get("size"), drawn.get("counts")
        if size != [height, width]:
            raise UserError(
                f"{place}: its run lengths are of size {documents.told(size)}, but its image is "
                f"{[height, width]} (height, width); export it again"
            )
        read_counts = drawing.from_text if isinstance(given, str) else drawing.from_counts
        counts = read_counts(given, width, height, place)
    return Shape(value, counts, row["crowd"])


def recognises(root: Path) -> bool:
    return bool(_lists(root))


FORMAT = Format("coco", "train", "val", read, recognises, annotated=True)
