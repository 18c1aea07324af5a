"""The files of a record, as they were indexed: their bytes, and the picture and mask in them."""

import hashlib
from pathlib import Path

from PIL import Image

from dkd.data.images import decode_pair, read_file
from dkd.data.records import Record
from dkd.errors import UserError


def digest(image: bytes, mask: bytes) -> str:
    """SHA-256 (hex) of an image file's bytes followed by its mask's: a record's digest."""
    both = hashlib.sha256(image)
    both.update(mask)
    return both.hexdigest()


def read(folder: Path, record: Record, verify: bool = True) -> tuple[bytes, bytes]:
    """The image file's bytes and the mask file's.

    Args:
        folder: in which the record's paths lie.
        record: of an index.
        verify: compare them with the record's digest.

    Raises:
        UserError: a file is missing, or one of them is not what was indexed.
    """
    image = read_file(folder / record.image, "image")
    mask = read_file(folder / record.masks / record.mask, "mask")
    if verify and digest(image, mask) != record.digest:
        raise UserError(
            f"{folder / record.image}: image or mask changed since it was indexed; put the files "
            "back, or start the command again, which indexes the folder again (what dkd data index "
            "published stays as it is: publish another; files in dkd's cache: remove them)"
        )
    return image, mask


def decode(
    folder: Path, record: Record, image: bytes, mask: bytes
) -> tuple[Image.Image, Image.Image]:
    """The picture, 8-bit RGB and upright, and the mask over it, label values of 8 or 16
    bits.

    Args:
        folder: in which the record's paths lie.
        record: of an index.
        image: the image file's bytes.
        mask: likewise.

    Raises:
        UserError: a file cannot be decoded (:mod:`dkd.data.images`), or is of another size.
    """
    image_path, mask_path = folder / record.image, folder / record.masks / record.mask
    picture, labels = decode_pair(image, mask, image_path, mask_path, record.mask_colours)
    if picture.size != (record.width, record.height):
        raise UserError(
            f"{image_path}: image or mask is not {record.width}x{record.height} as indexed; index "
            "the data set again"
        )
    return picture, labels
