"""``folder``: images and masks in folders of the same shape, classes in ``classes.yaml``."""

from pathlib import Path
from typing import Any

from dkd.data.formats.layout import (
    Finding,
    Format,
    Layout,
    by_colour,
    folder_split,
    full_palette,
    left_out,
    listed_void,
    refuse_alike,
)
from dkd.data.images import in_colours
from dkd.data.palettes import Colour, MaskColours
from dkd.errors import UserError
from dkd.scenario import strict_yaml
from dkd.scenario.names import class_name
from dkd.scenario.tasks import BACKGROUND, MOST_CLASSES, VOID, void_value


def read(root: Path, train: str, validation: str) -> Layout:
    """The layout of a plain folder, which names its classes itself."""
    classes, colours = read_classes(root / "classes.yaml")
    splits = {
        "train": folder_split(root, "masks", train),
        "validation": folder_split(root, "masks", validation),
    }
    palette = full_palette(classes, colours)
    findings = left_out(root, "masks", dict(zip((train, validation), splits.values(), strict=True)))
    mask_colours: MaskColours = ()
    if classes.keys() == colours.keys() and in_colours(root / splits["train"][0].mask):
        # Black is background and white void, unless a class has that colour.
        no_class = {v: palette[v] for v in (BACKGROUND, void_value(classes))}
        others = {v: c for v, c in no_class.items() if c not in colours.values()}
        mask_colours = by_colour(colours | others, root / "classes.yaml")
        masks = tuple(pair.mask for pairs in splits.values() for pair in pairs)
        note = Finding("masks are read by their colours, as classes.yaml has them", masks)
        findings = (note, *findings)
    return Layout(
        name=root.name,
        format="folder",
        root=str(root),
        classes=classes,
        palette=palette,
        future_is_void=False,
        splits=splits,
        mask_colours=mask_colours,
        colours=colours,
        findings=findings,
    )


def read_classes(file: Path) -> tuple[dict[int, str], dict[int, Colour]]:
    """Names and colours of classes by label value, of a ``classes.yaml``.

    Raises:
        UserError: it is missing, or says something else; what is wrong is named.
    """
    try:
        text = file.read_bytes()
    except FileNotFoundError:
        raise UserError(f"{file}: missing; write a line 'VALUE: name' for every class") from None
    except OSError as error:
        raise UserError(f"{file}: cannot be read: {error.strerror}") from None
    document = strict_yaml.load(text, str(file))
    if not isinstance(document, dict) or not document:
        raise UserError(f"{file}: no class; write a line 'VALUE: name' for every class")
    classes: dict[int, str] = {}
    colours: dict[int, Colour] = {}
    for value, entry in document.items():
        if type(value) is not int or not 1 <= value <= MOST_CLASSES:
            raise UserError(
                f"{file}: {value!r} is not a label value of a class; use 1..{MOST_CLASSES} "
                "(0 is background and not listed)"
            )
        name, colour = _read_class(file, value, entry)
        classes[value] = name
        if colour is not None:
            colours[value] = colour
    if VOID in classes and listed_void(classes) == VOID:
        raise UserError(
            f"{file}: {VOID} is not a label value of a class but void, which is not listed, unless "
            "there are more than 254 classes"
        )
    refuse_alike(classes.values(), file)
    return dict(sorted(classes.items())), colours


def _read_class(file: Path, value: int, entry: Any) -> tuple[str, Colour | None]:
    match entry:
        case str():
            return _name(file, value, entry), None
        case {"name": str() as name, "colour": [r, g, b]} if len(entry) == 2 and all(
            type(x) is int and 0 <= x <= 255 for x in (r, g, b)
        ):
            return _name(file, value, name), (r, g, b)
        case {"name": bool() | int() | float() | None as name} | (
            bool() | int() | float() | None as name
        ):
            raise UserError(
                f"{file}: class {value}: {name!r} is not text; a class of that name is written "
                f"{strict_yaml.quoted(name)}"
            )
    raise UserError(
        f"{file}: class {value}: write 'VALUE: name' or "
        "'VALUE: {name: name, colour: [red, green, blue]}'"
    )


def _name(file: Path, value: int, text: str) -> str:
    try:
        return class_name(text)
    except UserError as error:
        raise UserError(f"{file}: class {value}: {error}") from None


def recognises(root: Path) -> bool:
    return (root / "masks").is_dir() and (root / "images").is_dir()


FORMAT = Format("folder", "train", "validation", read, recognises)
