"""One pass over the files of a data set: sizes, label values, digests, and what is broken."""

import gzip
import hashlib
import json
import os
import threading
import zlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from dkd.data import images
from dkd.data.formats import Layout, Pair
from dkd.data.images import MaskFit
from dkd.data.palettes import Colour, MaskColours
from dkd.errors import UserError

_VERSION = 2


@dataclass(frozen=True, slots=True)
class Found:
    """What a scan saw of an image and its mask.

    Attributes:
        height: of the upright image, in pixels.
        width: likewise.
        values: label values in the mask, ascending.
        colours: of these values in the mask's palette; empty if it has none, or only greys.
        orientation: the image's, as EXIF numbers them.
        fit: whether the mask was drawn over the upright image or over the stored one.
        digest: SHA-256 (hex) of the image's bytes followed by the mask's.
        image_digest: of the image's bytes alone.
    """

    height: int
    width: int
    values: tuple[int, ...]
    colours: tuple[Colour, ...]
    orientation: int
    fit: MaskFit
    digest: str
    image_digest: str


def scan(
    layout: Layout,
    cache: Path | None,
    progress: Callable[[int, int], None] | None = None,
    anew: bool = False,
) -> dict[Pair, Found]:
    """Scans images and masks, those that the cache does not know.

    Decoding and hashing leave Python's lock, so threads use every core.

    Args:
        layout: images and masks, all of them files.
        cache: folder of the cache's files; None keeps none.
        progress: called with images done and all.
        anew: read every file, whatever the cache knows.

    Raises:
        UserError: the first pair, in order, that cannot be used.
    """
    # Other meanings of colours make other label values of the same files.
    colours = layout.mask_colours
    about = json.dumps([layout.root, layout.masks, colours])
    name = hashlib.sha256(about.encode()).hexdigest()[:24]
    file = cache / f"{name}.json.gz" if cache else None
    known = {} if anew else _read_cache(file)
    pairs = [pair for members in layout.splits.values() for pair in members]
    stamps = {pair: _stamp(layout, pair) for pair in dict.fromkeys(pairs)}
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
        if stop.is_set():
            return None
        paths = layout.image_path(pair), layout.mask_path(pair)
        return examine(*paths, *layout.sources(pair), colours)

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


def examine(
    image_path: Path,
    mask_path: Path,
    image_source: Path,
    mask_source: Path,
    colours: MaskColours = (),
) -> Found:
    """Reads and decodes one image and its mask.

    Args:
        image_path: the image's file.
        mask_path: the mask's.
        image_source: what messages call the image.
        mask_source: likewise.
        colours: what the mask's colours stand for; empty if it holds label values.

    Raises:
        UserError: a file is missing or cannot be used (:mod:`dkd.data.images`), or the two differ
            in size.
    """
    image_bytes = images.read_file(image_path, "image")
    mask_bytes = images.read_file(mask_path, "mask")
    image = images.open_image(image_bytes, image_source)
    frame = images.frame_of(image, image_source)
    width, height = image.size
    # All of a JPEG's bytes are read, but its blocks are reconstructed at an eighth.
    image.draft("L", (max(1, width // 8), max(1, height // 8)))
    images.decode(image, image_source, "image")
    images.verify(image_bytes, image_source, "image")
    mask, fit = images.decode_mask(mask_bytes, mask_source, frame, colours)
    images.verify(mask_bytes, mask_source, "mask")
    digest = hashlib.sha256(image_bytes)
    image_digest = digest.hexdigest()
    digest.update(mask_bytes)
    values = label_values(mask)
    return Found(
        height=frame.upright[1],
        width=frame.upright[0],
        values=values,
        colours=_colours(mask, values),
        orientation=frame.orientation,
        fit=fit,
        digest=digest.hexdigest(),
        image_digest=image_digest,
    )


def label_values(mask: Image.Image) -> tuple[int, ...]:
    """The label values in a mask, ascending."""
    if mask.mode == "I;16":
        return tuple(np.unique(np.asarray(mask)).tolist())
    return tuple(value for value, count in enumerate(mask.histogram()) if count)


def _colours(mask: Image.Image, values: Sequence[int]) -> tuple[Colour, ...]:
    palette = mask.getpalette() if mask.mode == "P" else None
    if palette is None:
        return ()
    rgb = [tuple(palette[3 * v : 3 * v + 3]) for v in values]
    # Grey for the value itself is what programs write that have no colours to give.
    if rgb == [(v, v, v) for v in values] or any(len(colour) < 3 for colour in rgb):
        return ()
    return tuple((r, g, b) for r, g, b in rgb)


Stamp = tuple[int, ...]
"""Of the image and of the mask: size, time of change, and time of change of the file's entry, which
no program can set back (``cp -p`` and ``rsync -t`` copy the other one). Nanoseconds."""


def _stamp(layout: Layout, pair: Pair) -> Stamp | None:
    try:
        both = layout.image_path(pair).stat(), layout.mask_path(pair).stat()
    except OSError:
        return None  # the scan says which file and why
    return tuple(n for s in both for n in (s.st_size, s.st_mtime_ns, s.st_ctime_ns))


def _read_cache(file: Path | None) -> dict[tuple[str, str], tuple[Stamp | None, Found]]:
    if file is None:
        return {}
    try:
        document = json.loads(gzip.decompress(file.read_bytes()))
        if document["version"] != _VERSION:
            return {}
        return {
            (image, mask): (tuple(stamp), _found(row))
            for image, mask, stamp, row in document["pairs"]
        }
    except (OSError, EOFError, zlib.error, ValueError, KeyError, TypeError):
        return {}  # absent or damaged: scan again


def _found(row: dict[str, Any]) -> Found:
    colours = tuple((r, g, b) for r, g, b in row["colours"])
    return Found(**{**row, "values": tuple(row["values"]), "colours": colours})


def _write_cache(file: Path, items: dict[Pair, tuple[Stamp | None, Found]]) -> None:
    rows = [
        [p.image, p.mask, stamp, asdict(f)] for p, (stamp, f) in items.items() if stamp is not None
    ]
    data = json.dumps({"version": _VERSION, "pairs": rows}).encode()
    temporary = file.with_name(f"{file.name}.{os.getpid()}")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(gzip.compress(data, compresslevel=3, mtime=0))
        temporary.replace(file)
    except OSError as error:
        raise UserError(f"{file}: cannot write the scan's cache: {error.strerror}") from None
