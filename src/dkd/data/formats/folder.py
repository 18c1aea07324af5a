"""``folder``: images and masks in folders of the same shape, classes in ``classes.yaml``."""

from pathlib import Path
from typing import Any

import yaml

from dkd.data.formats.layout import Format, Layout, folder_split, full_palette
from dkd.data.palettes import Colour
from dkd.errors import UserError


def read(root: Path, train: str, validation: str) -> Layout:
    """The layout of a plain folder, which names its classes itself."""
    classes, colours = _read_classes(root / "classes.yaml")
    return Layout(
        name=root.name,
        format="folder",
        root=str(root),
        classes=classes,
        palette=full_palette(classes, colours),
        future_is_void=False,
        splits={
            "train": folder_split(root, "masks", train),
            "validation": folder_split(root, "masks", validation),
        },
    )


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


FORMAT = Format("folder", "train", "validation", read)
