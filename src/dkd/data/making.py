"""Images and masks that are no files of their own, written into the cache.

Annotations (polygons, run lengths, one picture per label) become mask files once; from there on
every data set is files. What was made is made again only where what it follows from changed.
"""

import gzip
import hashlib
import json
import os
import threading
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from dkd.data.formats import Layout
from dkd.data.formats.layout import there
from dkd.errors import UserError
from dkd.scenario.data import Data
from dkd.scenario.tasks import BACKGROUND, VOID
from dkd.storage.files import placed

_VERSION = 1  # of how masks are drawn; another one makes all of them again
_LIST = "made.json.gz"


def write(
    layout: Layout,
    data: Data,
    cache: Path | None,
    progress: Callable[[int, int], None] | None = None,
    anew: bool = False,
) -> Layout:
    """Writes what a layout has no files of.

    Args:
        layout: of a folder.
        data: it is of, with what unlabelled pixels are.
        cache: folder in which the files are kept.
        progress: called with files done and all.
        anew: make every file, whatever lies in the cache.

    Returns:
        The layout, whose images and masks are files.

    Raises:
        UserError: an annotation cannot be drawn, there is no cache, or the disk is full.
    """
    if not layout.made:
        return layout
    if cache is None:
        raise UserError(f"{layout.root}: its masks are drawn into a cache; name a folder for it")
    void = data.unlabelled == "void"
    wide = [layout.void] if layout.void != VOID else []
    about = json.dumps([layout.format, layout.root, data.train, data.validation, void, *wide])
    folder = cache.absolute() / "made" / hashlib.sha256(about.encode()).hexdigest()[:24]
    known = _read(folder / _LIST)
    stamps = {path: each.stamp() for path, each in layout.made.items()}
    done = {
        path: stamp
        for path, stamp in stamps.items()
        if not anew and known.get(path) == stamp and there(folder / path)
    }
    todo = [path for path in stamps if path not in done]
    stop = threading.Event()

    def work(path: str) -> None:
        if stop.is_set():
            return
        content = layout.made[path].data(layout.void if void else BACKGROUND)
        with placed(folder / path, durable=False) as partial:
            partial.write_bytes(content)

    try:
        with ThreadPoolExecutor(max_workers=os.cpu_count() or 1) as pool:
            try:
                for path, _ in zip(todo, pool.map(work, todo), strict=True):
                    done[path] = stamps[path]
                    if progress and (len(done) % 50 == 0 or len(done) == len(stamps)):
                        progress(len(done), len(stamps))
            finally:
                stop.set()
        for path in known.keys() - stamps.keys():
            (folder / path).unlink(missing_ok=True)
    except OSError as error:
        raise UserError(f"{folder}: cannot write masks: {error.strerror or error}") from None
    finally:
        # What was made before an annotation that cannot be drawn need not be made again.
        if done != known:
            _write(folder / _LIST, done)
    images = {pair.image for pairs in layout.splits.values() for pair in pairs}
    root = str(folder) if images <= layout.made.keys() else layout.root
    return replace(layout, root=root, masks="" if root == str(folder) else str(folder))


def _read(file: Path) -> dict[str, str]:
    try:
        document = json.loads(gzip.decompress(file.read_bytes()))
        return dict(document["made"]) if document["version"] == _VERSION else {}
    except (OSError, EOFError, zlib.error, ValueError, KeyError, TypeError):
        return {}  # absent or damaged: make all again


def _write(file: Path, made: dict[str, str]) -> None:
    data = json.dumps({"version": _VERSION, "made": made}).encode()
    with placed(file, durable=False) as partial:
        partial.write_bytes(gzip.compress(data, compresslevel=1, mtime=0))
