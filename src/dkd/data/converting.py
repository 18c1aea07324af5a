"""A data set of any format, written as the plain format ``folder``."""

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from dkd.data import contents
from dkd.data.index import Dataset, Progress
from dkd.data.palettes import Colour
from dkd.data.records import Record
from dkd.errors import UserError
from dkd.scenario import strict_yaml
from dkd.scenario.tasks import VOID, WIDE_VOID
from dkd.storage.files import placed, scratch
from dkd.storage.store import disk_error

_SUFFIXES = {b"\xff\xd8": ".jpg", b"\x89P": ".png", b"RI": ".webp", b"II": ".tif", b"MM": ".tif"}


def to_folder(
    dataset: Dataset, source: Path, target: Path, progress: Progress | None = None
) -> None:
    """Writes images as they are, upright masks with a palette, and ``classes.yaml``.

    Nothing is at the target before all of it is.

    Args:
        dataset: of any format.
        source: folder in which the records' paths lie.
        target: folder that is made.
        progress: called with images written and all.

    Raises:
        UserError: the target exists, a file changed since it was indexed, or the disk is full.
    """
    if target.exists():
        raise UserError(f"{target}: is there already; name a new folder")
    try:
        with scratch(target.absolute().parent, f".{target.name}-") as folder:
            _write_all(dataset, source, folder / "made", progress)
            (folder / "made").rename(target)
    except OSError as error:
        raise disk_error(error, target) from error


def _write_all(dataset: Dataset, source: Path, folder: Path, progress: Progress | None) -> None:
    count, done = sum(map(len, dataset.splits.values())), 0
    for split, records in dataset.splits.items():
        names = _names(records)
        for record in records:
            image, mask = contents.read(source, record)
            labels = np.array(contents.decode(source, record, image, mask)[1])
            void = np.isin(labels, (*dataset.void_values, dataset.void, WIDE_VOID))
            labels = labels.astype(np.uint8 if dataset.void == VOID else np.uint16)
            labels[void] = dataset.void
            name = names[record.id]
            suffix = _SUFFIXES[image[:2]]
            _write(folder / "images" / split / f"{name}{suffix}", image)
            _write(folder / "masks" / split / f"{name}.png", indexed(labels, dataset.palette))
            done += 1
            if progress:
                progress(done, count)
    lines = [
        f"{value}: {{name: {strict_yaml.quoted(name)}, colour: {list(dataset.palette[value])}}}"
        for value, name in sorted(dataset.classes.items())
    ]
    _write(folder / "classes.yaml", ("\n".join(lines) + "\n").encode())


def indexed(
    labels: npt.NDArray[np.uint8] | npt.NDArray[np.uint16], palette: dict[int, Colour]
) -> bytes:
    """A mask of label values, H x W, as a PNG: with a palette of their colours if of 8 bits."""
    mask = Image.fromarray(labels)
    if labels.dtype == np.uint8:
        mask = mask.convert("P")
        mask.putpalette([level for value in range(256) for level in palette.get(value, (0, 0, 0))])
    file = io.BytesIO()
    mask.save(file, "PNG", compress_level=6)
    return file.getvalue()


def _names(records: Sequence[Record]) -> dict[str, str]:
    """File names by id, without folders and no two alike."""
    names: dict[str, str] = {}
    taken: set[str] = set()
    for record in records:
        name = record.id.replace("/", "_").lstrip(".") or "_"
        while name.casefold() in taken:
            name += "_"
        taken.add(name.casefold())
        names[record.id] = name
    return names


def _write(path: Path, data: bytes) -> None:
    with placed(path, durable=False) as partial:
        partial.write_bytes(data)
