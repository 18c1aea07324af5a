"""Masks drawn from annotations: polygons, run lengths, one picture per label.

What overlaps is painted in one order, whatever the format: regions of crowds first, then larger
regions before smaller ones, so that a small thing that lies on a large one is seen; of equal ones
the later in the file is on top.
"""

import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from dkd.errors import UserError

Counts = npt.NDArray[np.int64]
"""Run lengths down the columns of a mask, from the left one on: background and region by turns."""


@dataclass(frozen=True, slots=True)
class Shape:
    """A region of one class.

    Attributes:
        value: label value.
        counts: the region, for a mask of the drawing's size.
        crowd: it stands for several things, roughly.
    """

    value: int
    counts: Counts
    crowd: bool = False

    @property
    def area(self) -> int:
        return int(self.counts[1::2].sum())


def draw(shapes: Iterable[Shape], width: int, height: int, unlabelled: int) -> bytes:
    """A mask as a PNG file.

    Args:
        shapes: in the order of their file.
        width: in pixels.
        height: likewise.
        unlabelled: label value of pixels that no shape covers.

    Returns:
        PNG of one channel of 8 bits, or of 16 where a value takes as many.
    """
    ordered = sorted(shapes, key=lambda shape: (not shape.crowd, -shape.area))
    largest = max(unlabelled, *(shape.value for shape in ordered), 0)
    kind = np.min_scalar_type(largest)
    column_wise = np.full(width * height, unlabelled, kind)
    for shape in ordered:
        ends = np.cumsum(shape.counts).tolist()
        for start, end in zip(ends[0::2], ends[1::2], strict=False):
            column_wise[start:end] = shape.value
    file = io.BytesIO()
    mask = np.ascontiguousarray(column_wise.reshape(width, height).T)
    Image.fromarray(mask).save(file, "PNG", compress_level=6)
    return file.getvalue()


def of_mask(mask: npt.NDArray[np.bool_]) -> Counts:
    """The run lengths of a region (height x width)."""
    flat = mask.T.ravel()
    changes = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    bounds = np.concatenate([[0], *([[0]] if flat[0] else []), changes, [flat.size]])
    return np.diff(bounds)


def of_polygons(
    polygons: Sequence[npt.NDArray[np.float64]], width: int, height: int, place: str
) -> Counts:
    """The run lengths of what any of the polygons covers, as ``pycocotools`` fills them.

    Args:
        polygons: corners in pixels (n x 2: x, y), at least three each, within the mask.
        width: of the mask, in pixels.
        height: likewise.
        place: of the polygons, for messages.

    Raises:
        UserError: pycocotools is not installed, or cannot draw them.
    """
    masks = _pycocotools()
    try:
        parts = masks.frPyObjects([polygon.ravel().tolist() for polygon in polygons], height, width)
        counts: bytes = masks.merge(parts)["counts"]
    except (ValueError, TypeError, MemoryError) as error:
        raise UserError(f"{place}: the polygon cannot be drawn: {error}") from None
    return from_text(counts, width, height, place)


def checked_polygon(points: Any, width: int, height: int, place: str) -> npt.NDArray[np.float64]:
    """Corners x, y, x, y ... in pixels, moved into the mask if they are up to a pixel outside.

    Args:
        points: of a file.
        width: of the mask, in pixels.
        height: likewise.
        place: of the polygon, for messages.

    Returns:
        n x 2: x, y.

    Raises:
        UserError: they are no corners, fewer than three, or one lies outside.
    """
    try:
        corners = np.asarray(points, np.float64)
    except (ValueError, TypeError):
        corners = np.empty(0)
    if corners.ndim != 1 or corners.size % 2 or corners.size < 6:
        raise UserError(f"{place}: not a polygon of three or more corners: x, y, x, y, ...")
    corners = corners.reshape(-1, 2)
    inside = np.clip(corners, 0, (width, height))
    outside = ~(np.abs(corners - inside) <= 1)  # what is no number is outside too
    if outside.any():
        x, y = corners[outside.any(axis=1)][0]
        raise UserError(
            f"{place}: the corner {x:g},{y:g} of a polygon lies outside the image, which is "
            f"{width}x{height}; correct the annotation, or the image's size"
        )
    return inside


def from_counts(counts: Any, width: int, height: int, place: str) -> Counts:
    """Run lengths as COCO writes them in a list.

    Raises:
        UserError: they are no counts, or not as many pixels as the mask has.
    """
    if not isinstance(counts, list) or not all(type(n) is int and n >= 0 for n in counts):
        raise UserError(f"{place}: counts of a run length encoding are whole numbers from 0 on")
    return _of_size(counts, width, height, place)


def from_text(counts: str | bytes, width: int, height: int, place: str) -> Counts:
    """Run lengths as COCO writes them in a text: five bits a character, differences of every other.

    Read here and not by ``pycocotools``, whose decoder gives whatever lay in memory for pixels that
    the counts do not reach.

    Raises:
        UserError: they are no counts, or not as many pixels as the mask has.
    """
    try:
        raw = counts.encode("ascii") if isinstance(counts, str) else counts
    except UnicodeEncodeError:
        raw = b""
    bits = np.frombuffer(raw, np.uint8).astype(np.int64) - 48
    if not bits.size or bits.min() < 0 or bits.max() > 63 or bits[-1] & 32:
        raise UserError(f"{place}: the counts are not a run length encoding, or are cut off")
    last = bits & 32 == 0  # a set bit tells that the number goes on
    first = np.concatenate([[True], last[:-1]])
    number = np.cumsum(first) - 1
    shift = 5 * (np.arange(bits.size) - np.flatnonzero(first)[number])
    if shift.max() > 40:
        raise UserError(f"{place}: the counts are not a run length encoding")
    values = np.zeros(number[-1] + 1, np.int64)
    np.add.at(values, number, (bits & 31) << shift)
    negative = (bits & 16 != 0) & last
    values[number[negative]] -= 32 << shift[negative]
    values[1::2] = np.cumsum(values[1::2])
    values[2::2] = np.cumsum(values[2::2])
    return _of_size(values.tolist(), width, height, place)


def _of_size(counts: list[int], width: int, height: int, place: str) -> Counts:
    pixels = sum(counts)  # of Python's numbers: those of files are of any size
    if pixels != width * height or min(counts) < 0:
        raise UserError(
            f"{place}: the run lengths give {pixels} pixels, but the image is {width}x{height}, "
            f"{width * height} pixels; export it again"
        )
    return np.array(counts, np.int64)


def require_drawing() -> None:
    """Fails at once, and not at the first polygon, where none can be drawn.

    Raises:
        UserError: pycocotools is not installed.
    """
    _pycocotools()


def _pycocotools() -> Any:
    try:
        from pycocotools import mask
    except ImportError:
        raise UserError(
            "polygons need the package pycocotools: pip install 'dkd[labels]'"
        ) from None
    return mask
