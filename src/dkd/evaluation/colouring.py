"""How segmented images look: masks with the classes' colours, overlays, and the legend of both.

Each file that is made here is marked with what it was made of, in a text chunk of the PNG or the
comment of the JPEG, so that it can be told from a photograph, and found again.
"""

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, PngImagePlugin

from dkd.data.channels import Channels
from dkd.data.palettes import Colour, distinct_colours, voc_colour
from dkd.scenario.class_names import ADE20K_CLASSES, VOC_CLASSES
from dkd.scenario.names import BACKGROUND_NAME

_MARK = "dkd predict"
_MIXED_AT_A_TIME = 1 << 20  # pixels, as floating point numbers


def palette(classes: Sequence[str], dataset: str) -> tuple[Colour, ...]:
    """Colours of background and classes by channel: the data set's own where it has some.

    Args:
        classes: names in channel order.
        dataset: name of the data set that the model learned from: ``voc``, ``ade20k`` or another.
    """
    own: dict[str, Colour] = {}
    if dataset == "voc":
        own = {name: voc_colour(value) for value, name in VOC_CLASSES.items()}
    elif dataset == "ade20k":
        colours = distinct_colours(ADE20K_CLASSES)
        own = {name: colours[value] for value, name in ADE20K_CLASSES.items()}
    known = {k: own[name] for k, name in enumerate(classes, start=1) if name in own}
    others = (k for k in range(1, len(classes) + 1) if k not in known)
    found = known | distinct_colours(others, taken=known.values())
    return ((0, 0, 0), *(found[k] for k in range(1, len(classes) + 1)))


def indexed(channels: Channels, colours: Sequence[Colour], made_of: str) -> bytes:
    """Channel numbers, H x W, as a PNG: with a palette, or grey of 16 bits beyond 254 classes.

    Args:
        channels: H x W.
        colours: by channel.
        made_of: kept in the file, see :func:`made_of`.
    """
    if channels.dtype == np.uint8:
        mask = Image.fromarray(channels).convert("P")
        mask.putpalette([level for colour in colours for level in colour])
    else:
        mask = Image.fromarray(channels.astype(np.uint16))
    text = PngImagePlugin.PngInfo()
    text.add_text(_MARK, made_of)
    buffer = io.BytesIO()
    mask.save(buffer, "PNG", optimize=True, pnginfo=text)
    return buffer.getvalue()


def overlay(
    image: Image.Image,
    channels: Channels,
    colours: Sequence[Colour],
    alpha: float,
    made_of: str,
) -> bytes:
    """The image with its classes tinted, as a JPEG; background stays as it is.

    Args:
        image: RGB, H x W.
        channels: H x W.
        colours: by channel.
        alpha: how much of a class's colour, 0..1.
        made_of: kept in the file, see :func:`made_of`.
    """
    mixed = np.array(image)
    levels, rows = np.array(colours, np.float32), max(1, _MIXED_AT_A_TIME // image.width)
    for top in range(0, image.height, rows):
        part = slice(top, top + rows)
        pixels, tint = mixed[part].astype(np.float32), levels[channels[part]]
        share = np.where(channels[part, :, None] > 0, alpha, 0.0)
        mixed[part] = np.rint(pixels + (tint - pixels) * share)
    buffer = io.BytesIO()
    Image.fromarray(mixed).save(buffer, "JPEG", quality=92, comment=f"{_MARK}: {made_of}")
    return buffer.getvalue()


def made_of(path: Path) -> str | None:
    """What a mask or an overlay says that it was made of; None if it was not made here."""
    try:
        with Image.open(path, formats=("PNG", "JPEG")) as image:
            told, comment = image.info.get(_MARK), image.info.get("comment", b"")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None
    if isinstance(told, str):
        return told
    text = comment.decode(errors="replace") if isinstance(comment, bytes) else str(comment)
    return text.removeprefix(f"{_MARK}: ") if text.startswith(f"{_MARK}: ") else None


def legend(classes: Sequence[Sequence[str]], colours: Sequence[Colour]) -> bytes:
    """What a mask's values mean, as JSON: value, name, step and colour of each class.

    Args:
        classes: names by step.
        colours: by channel.
    """
    rows: list[dict[str, Any]] = [{"value": 0, "name": BACKGROUND_NAME, "colour": list(colours[0])}]
    for step, names in enumerate(classes):
        for name in names:
            value = len(rows)
            rows.append(
                {"value": value, "name": name, "step": step, "colour": list(colours[value])}
            )
    return (json.dumps(rows, indent=1, ensure_ascii=False) + "\n").encode()
