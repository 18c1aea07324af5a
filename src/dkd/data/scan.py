"""One pass over the files of a data set: sizes, label values, digests, and what is broken."""

import gzip
import hashlib
import io
import json
import os
import struct
import threading
import zlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageFile

from dkd.data.formats import Pair
from dkd.errors import UserError

MAX_PIXELS = 64 * 1024 * 1024
"""Images with more pixels are refused before they are decoded."""

MAX_ASPECT = 100
"""Nor are longer ones: with the short side resized for evaluation they would be huge."""

_IMAGE_MODES = {"1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK"}
_MASK_MODES = {"L", "P"}
_VERSION = 1


@dataclass(frozen=True)
class Found:
    """What a scan saw of an image and its mask.

    Attributes:
        height: pixels.
        width: pixels.
        values: label values in the mask, ascending.
        digest: SHA-256 (hex) of the image's bytes followed by the mask's.
    """

    height: int
    width: int
    values: tuple[int, ...]
    digest: str


def scan(
    root: Path,
    pairs: Sequence[Pair],
    cache: Path | None,
    progress: Callable[[int, int], None] | None = None,
) -> dict[Pair, Found]:
    """Scans images and masks, those that the cache does not know.

    Decoding and hashing leave Python's lock, so threads use every core.

    Args:
        root: the data set's folder.
        pairs: its images and masks.
        cache: folder of the cache's files; None keeps none.
        progress: called with images done and all.

    Raises:
        UserError: the first pair, in order, that cannot be used.
    """
    name = hashlib.sha256(str(root).encode()).hexdigest()[:24]
    file = cache / f"{name}.json.gz" if cache else None
    known = _read_cache(file)
    stamps = {pair: _stamp(root, pair) for pair in dict.fromkeys(pairs)}
    found: dict[Pair, Found] = {}
    for pair, stamp in stamps.items():
        cached = known.get((pair.image, pair.mask))
        if cached and cached[0] == stamp:
            found[pair] = cached[1]
    todo = [pair for pair in stamps if pair not in found]
    done = len(found)
    if progress:
        progress(done, len(stamps))
    stop = threading.Event()

    def work(pair: Pair) -> Found | None:
        return None if stop.is_set() else examine(root / pair.image, root / pair.mask)

    with ThreadPoolExecutor(max_workers=os.cpu_count() or 1) as pool:
        try:
            for pair, item in zip(todo, pool.map(work, todo), strict=True):
                assert item is not None
                found[pair] = item
                done += 1
                if progress and (done % 50 == 0 or done == len(stamps)):
                    progress(done, len(stamps))
        finally:
            stop.set()
            # What was scanned before a bad file need not be scanned again.
            if file and todo:
                _write_cache(file, {pair: (stamps[pair], found[pair]) for pair in found})
    return found


def examine(image_path: Path, mask_path: Path) -> Found:
    """Reads and decodes one image and its mask.

    Raises:
        UserError: a file is missing, is not a whole JPEG or PNG image (mask: an 8-bit PNG of one
            channel), is too large, or the two differ in size.
    """
    image_bytes = _read(image_path, "image")
    mask_bytes = _read(mask_path, "mask")
    with _open(image_bytes, image_path, ("JPEG", "PNG")) as image:
        if image.mode not in _IMAGE_MODES:
            raise UserError(f"{image_path}: {image.mode} pixels; convert the image to 8-bit RGB")
        width, height = image.size
        # All of a JPEG's bytes are read, but its blocks are reconstructed at an eighth.
        image.draft("L", (max(1, width // 8), max(1, height // 8)))
        _decode(image, image_path, image_bytes)
    with _open(mask_bytes, mask_path, ("PNG",)) as mask:
        if mask.mode not in _MASK_MODES:
            raise UserError(
                f"{mask_path}: {mask.mode} pixels; a mask is a PNG with one 8-bit channel of "
                "label values (grey or with a palette)"
            )
        if mask.size != (width, height):
            raise UserError(
                f"{mask_path}: the mask is {mask.size[0]}x{mask.size[1]} but the image "
                f"{image_path.name} is {width}x{height}; make them the same size"
            )
        _decode(mask, mask_path, mask_bytes)
        values = tuple(value for value, count in enumerate(mask.histogram()) if count)
    digest = hashlib.sha256(image_bytes)
    digest.update(mask_bytes)
    return Found(height, width, values, digest.hexdigest())


def _read(path: Path, what: str) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise UserError(f"{path}: the {what} is missing; add it or take it off the list") from None
    except OSError as error:
        raise UserError(f"{path}: {what} cannot be read: {error.strerror}") from None


def _open(data: bytes, path: Path, kinds: tuple[str, ...]) -> ImageFile.ImageFile:
    try:
        image = Image.open(io.BytesIO(data), formats=kinds)
    except (OSError, ValueError, SyntaxError, struct.error, Image.DecompressionBombError) as error:
        if isinstance(error, Image.DecompressionBombError):
            raise UserError(f"{path}: {error}; images up to 64 megapixels are read") from None
        raise UserError(f"{path}: not a {' or '.join(kinds)} file; replace it") from None
    long, short = max(image.size), min(image.size)
    if long * short > MAX_PIXELS or long > MAX_ASPECT * short:
        raise UserError(
            f"{path}: {image.width}x{image.height} pixels; images up to 64 megapixels and "
            f"{MAX_ASPECT} times as long as wide are read"
        )
    return image


def _decode(image: ImageFile.ImageFile, path: Path, data: bytes) -> None:
    try:
        image.load()
        if image.format == "PNG":
            # Decoding stops at the last pixel; other decoders want whole chunks and right sums.
            Image.open(io.BytesIO(data), formats=("PNG",)).verify()
    except (OSError, ValueError, SyntaxError, EOFError, zlib.error, struct.error) as error:
        raise UserError(f"{path}: corrupt image ({error}); replace it") from None


Stamp = tuple[int, int, int, int]
"""Size and time of change (nanoseconds) of the image and of the mask."""


def _stamp(root: Path, pair: Pair) -> Stamp | None:
    try:
        image, mask = (root / pair.image).stat(), (root / pair.mask).stat()
    except OSError:
        return None  # the scan says which file and why
    return image.st_size, image.st_mtime_ns, mask.st_size, mask.st_mtime_ns


def _read_cache(file: Path | None) -> dict[tuple[str, str], tuple[Stamp | None, Found]]:
    if file is None:
        return {}
    try:
        document = json.loads(gzip.decompress(file.read_bytes()))
        if document["version"] != _VERSION:
            return {}
        return {
            (image, mask): (tuple(stamp), Found(height, width, tuple(values), digest))
            for image, mask, stamp, height, width, values, digest in document["pairs"]
        }
    except (OSError, EOFError, zlib.error, ValueError, KeyError, TypeError):
        return {}  # absent or damaged: scan again


def _write_cache(file: Path, items: dict[Pair, tuple[Stamp | None, Found]]) -> None:
    rows = [
        [p.image, p.mask, stamp, f.height, f.width, f.values, f.digest]
        for p, (stamp, f) in items.items()
        if stamp is not None
    ]
    data = json.dumps({"version": _VERSION, "pairs": rows}).encode()
    temporary = file.with_name(f"{file.name}.{os.getpid()}")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(gzip.compress(data, compresslevel=3, mtime=0))
        temporary.replace(file)
    except OSError as error:
        raise UserError(f"{file}: cannot write the scan's cache: {error.strerror}") from None
