"""Layouts of data sets in folders: which image belongs to which mask, and the classes' names."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from dkd.data.palettes import Colour, distinct_colours, voc_colour
from dkd.errors import UserError
from dkd.scenario.class_names import ADE20K_CLASSES, VOC_CLASSES
from dkd.scenario.schema import Data

_IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png")


@dataclass(frozen=True)
class Pair:
    """An image and its mask, as paths below the root."""

    id: str
    image: str
    mask: str


@dataclass(frozen=True)
class Layout:
    """What a folder promises, before any image is opened. Fields as in ``index.Dataset``."""

    name: str
    format: str
    root: str
    classes: dict[int, str]
    palette: dict[int, Colour]
    future_is_void: bool
    splits: dict[str, tuple[Pair, ...]]


def read(data: Data, name: str | None = None) -> Layout:
    """Reads the lists and names of a data set's folder (``voc``, ``ade20k`` or ``folder``).

    Args:
        data: format, root, and the splits' names where they are not the format's own.
        name: the data set's name; that of the format or folder by default.

    Raises:
        UserError: the folder, a list or a sub-folder is missing or empty, a line or the file of
            classes cannot be understood, or an id stands twice in a split.
    """
    root = Path(data.root).expanduser().absolute()
    if not root.is_dir():
        raise UserError(f"{root}: no such folder; name the data set's root")
    splits: dict[str, tuple[Pair, ...]]
    match data.format:
        case "voc":
            classes, palette, own_name = VOC_CLASSES, _voc_palette(), "voc"
            splits = {
                "train": _voc_split(root, data.train or "train_aug", training=True),
                "validation": _voc_split(root, data.validation or "val", training=False),
            }
        case "ade20k":
            classes, palette, own_name = ADE20K_CLASSES, _palette(ADE20K_CLASSES, {}), "ade20k"
            splits = {
                "train": _folder_split(root, "annotations", data.train or "training"),
                "validation": _folder_split(root, "annotations", data.validation or "validation"),
            }
        case "folder":
            classes, colours = _read_classes(root / "classes.yaml")
            palette, own_name = _palette(classes, colours), root.name
            splits = {
                "train": _folder_split(root, "masks", data.train or "train"),
                "validation": _folder_split(root, "masks", data.validation or "validation"),
            }
        case other:
            raise UserError(f"data.format: {other!r} is not a folder's; say voc, ade20k or folder")
    return Layout(
        name=name or own_name,
        format=data.format,
        root=str(root),
        classes=dict(classes),
        palette=palette,
        future_is_void=data.format == "ade20k",
        splits=splits,
    )


def _voc_split(root: Path, name: str, training: bool) -> tuple[Pair, ...]:
    lists = root / "ImageSets" / "Segmentation"
    if not lists.is_dir():
        inner = root / "VOCdevkit" / "VOC2012"
        hint = f"; did you mean {inner}?" if inner.is_dir() else "; is this the VOC2012 folder?"
        raise UserError(f"{lists}: no such folder{hint}")
    file = lists / f"{name}.txt"
    try:
        lines = [line.split() for line in file.read_text().splitlines() if line.strip()]
    except FileNotFoundError:
        have = ", ".join(sorted(path.stem for path in lists.glob("*.txt"))) or "none"
        raise UserError(f"{file}: no such list; the folder has {have}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{file}: cannot be read as text: {error}") from None
    # SBD's masks, where they are; the augmented list makes no sense without them.
    augmented = training and (name == "train_aug" or (root / "SegmentationClassAug").is_dir())
    masks = "SegmentationClassAug" if augmented else "SegmentationClass"
    pairs = []
    for number, words in enumerate(lines, start=1):
        match words:
            case [id_] if "/" not in id_:
                pairs.append(Pair(id_, f"JPEGImages/{id_}.jpg", f"{masks}/{id_}.png"))
            case [image, mask]:
                image, mask = image.lstrip("/"), mask.lstrip("/")
                if ".." in f"{image}/{mask}".split("/"):
                    raise UserError(f"{file}: line {number} leads out of {root}; correct it")
                pairs.append(Pair(Path(image).stem, image, mask))
            case _:
                raise UserError(
                    f"{file}: line {number} is neither an id nor the paths of an image and a mask"
                )
    return _checked(pairs, str(file))


def _folder_split(root: Path, masks: str, name: str) -> tuple[Pair, ...]:
    folder = root / "images" / name
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; images of the {name} split lie there")
    if not (root / masks / name).is_dir():
        raise UserError(f"{root / masks / name}: no such folder; masks of the split lie there")
    files = sorted(
        path.name
        for path in folder.iterdir()
        if path.suffix.lower() in _IMAGE_SUFFIXES and not path.name.startswith(".")
    )
    pairs = [
        Pair(Path(file).stem, f"images/{name}/{file}", f"{masks}/{name}/{Path(file).stem}.png")
        for file in files
    ]
    return _checked(pairs, str(folder))


def _checked(pairs: Iterable[Pair], source: str) -> tuple[Pair, ...]:
    by_id: dict[str, Pair] = {}
    for pair in pairs:
        if pair.id in by_id:
            raise UserError(f"{source}: {pair.id} stands there twice; keep one")
        by_id[pair.id] = pair
    if not by_id:
        raise UserError(f"{source}: no image; a split holds at least one")
    return tuple(by_id.values())


def _read_classes(file: Path) -> tuple[dict[int, str], dict[int, Colour]]:
    try:
        document = yaml.safe_load(file.read_text())
    except FileNotFoundError:
        raise UserError(f"{file}: missing; write a line 'VALUE: name' for every class") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UserError(f"{file}: not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(document, dict) or not document:
        raise UserError(f"{file}: no class; write a line 'VALUE: name' for every class")
    classes: dict[int, str] = {}
    colours: dict[int, Colour] = {}
    for value, entry in document.items():
        if type(value) is not int or not 1 <= value <= 254:
            raise UserError(
                f"{file}: {value!r} is no class's label value; they are 1..254 "
                "(0 is background, 255 void, and neither is listed)"
            )
        name, colour = _read_class(file, value, entry)
        if name in classes.values():
            raise UserError(f"{file}: two classes are called {name!r}; names are unique")
        classes[value] = name
        if colour is not None:
            colours[value] = colour
    return dict(sorted(classes.items())), colours


def _read_class(file: Path, value: int, entry: Any) -> tuple[str, Colour | None]:
    match entry:
        case str() if entry.strip():
            return entry.strip(), None
        case {"name": str() as name, "colour": [int() as r, int() as g, int() as b]} if (
            name.strip() and len(entry) == 2 and all(0 <= x <= 255 for x in (r, g, b))
        ):
            return name.strip(), (r, g, b)
    raise UserError(
        f"{file}: class {value}: write 'VALUE: name' or "
        "'VALUE: {name: name, colour: [red, green, blue]}'"
    )


def _voc_palette() -> dict[int, Colour]:
    return {value: voc_colour(value) for value in (0, *VOC_CLASSES, 255)}


def _palette(classes: Mapping[int, str], given: Mapping[int, Colour]) -> dict[int, Colour]:
    made = distinct_colours((v for v in classes if v not in given), taken=given.values())
    palette = {0: (0, 0, 0), **made, **given, 255: (255, 255, 255)}
    return dict(sorted(palette.items()))
