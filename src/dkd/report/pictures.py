"""Pictures of the page: small, in the data set's colours, as data URIs."""

import base64
import io
from collections.abc import Sequence

import numpy as np
from PIL import Image, UnidentifiedImageError

from dkd.data.channels import void_of
from dkd.errors import UserError
from dkd.report.model import Colour

VOID_COLOUR: Colour = (224, 224, 192)
THUMBNAIL_SIDE = 96
"""Pixels of the longer side of an exemplar's picture, kept with the memory and on the page."""
LABEL_MODES = ("L", "P", "I;16")


def photograph(data: bytes, side: int, name: str) -> str:
    """A JPEG data URI of the picture, its longer side at most ``side`` pixels.

    A PNG or JPEG that is small enough is taken as it is.

    Args:
        data: an image file.
        side: pixels.
        name: of the picture, for messages.

    Raises:
        UserError: the data are no picture.
    """
    image = _opened(data, name)
    if max(image.size) <= side and image.format in ("JPEG", "PNG") and len(data) <= 32 * side:
        return _uri(data, f"image/{image.format.lower()}")
    image = image.convert("RGB")
    image.thumbnail((side, side), Image.Resampling.LANCZOS)
    file = io.BytesIO()
    image.save(file, "JPEG", quality=82, optimize=True)
    return _uri(file.getvalue(), "image/jpeg")


def label_map(data: bytes, name: str) -> np.ndarray:
    """The channel numbers of a grey or palette picture, uint8 or uint16 of shape (height, width).

    Raises:
        UserError: the data are no picture, or a coloured one.
    """
    image = _opened(data, name)
    if image.mode not in LABEL_MODES:
        raise UserError(f"report: picture {name}: mode {image.mode}; give channel numbers (L or P)")
    return np.asarray(image)


def coloured(labels: np.ndarray, colours: Sequence[Colour], side: int, name: str) -> str:
    """A PNG data URI of a label map, its longer side at most ``side`` pixels.

    Args:
        labels: channel numbers, uint8 or uint16 of shape (height, width); the largest number of
            the type is void.
        colours: by channel.
        side: pixels; a larger map is reduced to the nearest pixels.
        name: of the picture, for messages.

    Raises:
        UserError: a channel has no colour.
    """
    present, void = np.unique(labels), void_of(labels)
    if unknown := [int(value) for value in present if len(colours) <= value < void]:
        raise UserError(
            f"report: picture {name}: value {unknown[0]} is no channel of {len(colours)}"
        )
    palette = [VOID_COLOUR if value == void else colours[value] for value in present]
    numbers = np.searchsorted(present, labels)
    if len(present) <= 256:
        # The values are packed to 0..n-1, so that few colours make few bits per pixel.
        image = Image.fromarray(numbers.astype(np.uint8), mode="P")
        image.putpalette([level for colour in palette for level in colour])
    else:
        image = Image.fromarray(np.array(palette, np.uint8)[numbers])
    longest = max(image.size)
    if longest > side:
        size = (
            max(round(image.width * side / longest), 1),
            max(round(image.height * side / longest), 1),
        )
        image = image.resize(size, Image.Resampling.NEAREST)
    file = io.BytesIO()
    image.save(file, "PNG", optimize=True)
    return _uri(file.getvalue(), "image/png")


def _opened(data: bytes, name: str) -> Image.Image:
    try:
        image = Image.open(io.BytesIO(data))
        image.load()
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
        reason = "no PNG or JPEG" if isinstance(error, UnidentifiedImageError) else error
        raise UserError(f"report: picture {name}: {reason}") from None
    return image


def _uri(data: bytes, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"
