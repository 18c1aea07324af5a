"""Formats of data sets in folders: which image belongs to which mask, and the classes' names.

A format is a module with a :class:`~dkd.data.formats.layout.Format`, listed in :data:`FORMATS`
(and by name in :data:`dkd.scenario.data.DataFormat`).
"""

from dataclasses import replace
from pathlib import Path

from dkd.data.formats import (
    ade20k,
    cityscapes,
    coco,
    cvat,
    folder,
    hugging_face,
    label_studio,
    voc,
    yolo,
)
from dkd.data.formats.layout import Finding, Format, Layout, Made, Pair
from dkd.errors import UserError
from dkd.scenario.data import Data

__all__ = ["FORMATS", "Finding", "Format", "Layout", "Made", "Pair", "read", "recognised"]

FORMATS: dict[str, Format] = {
    each.FORMAT.name: each.FORMAT
    for each in (voc, ade20k, cityscapes, coco, cvat, folder, hugging_face, label_studio, yolo)
}
"""By name."""


def recognised(root: Path) -> str:
    """The name of the format that a folder looks like.

    Raises:
        UserError: there is no such folder, or it looks like none of the formats, or like several.
    """
    root = root.expanduser().absolute()
    if not root.is_dir():
        raise UserError(f"{root}: no such folder; name the data set's root")
    names = [name for name, each in FORMATS.items() if each.recognises(root)]
    if len(names) != 1:
        looks = f"like {' and '.join(names)}" if names else f"like none of {', '.join(FORMATS)}"
        raise UserError(f"{root}: looks {looks}; name its format (--format)")
    return names[0]


def read(data: Data, name: str | None = None) -> Layout:
    """Reads the lists and names of a data set's folder.

    Args:
        data: format (one of :data:`FORMATS`), root, and the splits' names where they are not the
            format's own.
        name: the data set's name; that of the format or folder by default.

    Raises:
        UserError: the folder, a list or a sub-folder is missing or empty, a line or the file of
            classes cannot be understood, or an id stands twice in a split.
    """
    root = Path(data.root).expanduser().absolute()
    if not root.is_dir():
        raise UserError(f"{root}: no such folder; name the data set's root")
    found = FORMATS.get(data.format)
    if found is None:
        raise UserError(f"data.format: {data.format!r} is not a folder's; say {', '.join(FORMATS)}")
    if data.unlabelled != "background" and not found.annotated:
        raise UserError(
            f"data.unlabelled: masks of the format {data.format} label every pixel; leave it out"
        )
    layout = found.read(root, data.train or found.train, data.validation or found.validation)
    return replace(layout, name=name or layout.name)
