"""Segmenting the images of folders, each result written as it is ready.

``masks/NAME.png`` is a PNG of the image's size: its values are channel numbers, its palette the
classes' colours (beyond 254 classes it is grey of 16 bits), ``classes.json`` explains both;
``overlays/NAME.jpg`` is for people.
Every file appears whole, and says in itself of which image and model it was made: what is done is
not done again, and is never taken for a photograph.
"""

import os
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from dkd import storage
from dkd.data.images import BATCH_PIXELS, IMAGE_SUFFIXES, LARGEST_TO_PREDICT, at_a_time, read_image
from dkd.errors import UserError
from dkd.evaluation import colouring
from dkd.evaluation.segmenter import Segmenter

LEGEND, MASKS, OVERLAYS = "classes.json", "masks", "overlays"
_PENDING = 4
"""So many batches of images may wait for others of their size, and so many times as many pixels."""
_ARRIVES_WITHIN = 60  # seconds


@dataclass(frozen=True)
class ImageFile:
    """An image file.

    Attributes:
        path: the file.
        name: what its results are called, with ``/``, without a suffix.
    """

    path: Path
    name: str

    @property
    def mask(self) -> str:
        """Where its mask goes, below the output folder."""
        return f"{MASKS}/{self.name}.png"

    @property
    def overlay(self) -> str:
        """Likewise its overlay."""
        return f"{OVERLAYS}/{self.name}.jpg"


@dataclass(frozen=True)
class Outcome:
    """What came of the images.

    Attributes:
        made: number of images that were segmented now.
        found: number of those that had been before, by the same model.
        refused: what is wrong with the others, one line each.
    """

    made: int
    found: int
    refused: tuple[str, ...]


def sources(paths: Sequence[Path]) -> list[ImageFile]:
    """The images of files and folders (searched through), in order of their names.

    Args:
        paths: images, and folders; in a folder, what is no image by its suffix is passed over, and
            so are masks and overlays that were made here.

    Raises:
        UserError: nothing is there, or two results would have one name.
    """
    files: dict[str, Path] = {}
    for path in paths:
        if path.is_dir():
            inner = [
                file
                for file in sorted(path.rglob("*"))
                if file.suffix.lower() in IMAGE_SUFFIXES and file.is_file() and not _is_result(file)
            ]
            found = {file.relative_to(path).with_suffix("").as_posix(): file for file in inner}
            if not found:
                raise UserError(f"{path}: no JPEG, PNG, TIFF or WebP image in this folder")
            if len(found) < len(inner):
                raise UserError(f"{path}: two images differ only in their suffix; rename one")
        elif path.is_file():
            found = {path.stem: path}
        else:
            raise UserError(f"{path}: no such file or folder")
        for name, file in found.items():
            if name in files:
                raise UserError(f"{file}: {files[name]} has the same name; rename one of them")
            files[name] = file
    return [ImageFile(file, name) for name, file in sorted(files.items())]


def predict(
    segmenter: Segmenter,
    images: Sequence[ImageFile],
    output: Path,
    *,
    batch: int,
    alpha: float,
    progress: Callable[[int, int], None],
    complain: Callable[[str], None],
) -> Outcome:
    """Segments images into ``output``; what is there of the same images and model is kept.

    Args:
        segmenter: the model.
        images: from :func:`sources`.
        output: folder; made if it is missing.
        batch: images of one size that are segmented together.
        alpha: of the overlays, 0..1.
        progress: called with images done and all.
        complain: called with a line for every image that cannot be read; the rest goes on.

    Raises:
        UserError: the folder cannot be written, or holds what was not made here or with other
            classes; nothing is done then.
    """
    colours = colouring.palette(segmenter.class_names[1:], segmenter.dataset)
    _claim(output, images, colouring.legend(segmenter.steps, colours))
    waiting = dict[tuple[int, int], list[tuple[ImageFile, Image.Image, str]]]()
    refused = list[str]()
    made = found = 0

    def finish(size: tuple[int, int]) -> int:
        members = waiting.pop(size)
        seen = segmenter.predict([image for _, image, _ in members], batch=batch)
        for (source, image, made_of), each in zip(members, seen, strict=True):
            picture = colouring.overlay(image, each.mask, colours, alpha, made_of)
            _put(output / source.overlay, picture)
            _put(output / source.mask, colouring.indexed(each.mask, colours, made_of))
        return len(members)

    for source in images:
        try:
            made_of = _made_of(source.path, segmenter.digest, alpha)
            done = _is_done(output, source, made_of)
            image = None if done else read_image(source.path, LARGEST_TO_PREDICT)
        except UserError as error:
            refused.append(str(error))
            complain(str(error))
        else:
            if image is None:
                found += 1
            else:
                waiting.setdefault(image.size, []).append((source, image, made_of))
                if len(waiting[image.size]) == at_a_time(batch, *image.size):
                    made += finish(image.size)
                elif sum(map(len, waiting.values())) > _PENDING * batch or (
                    sum(w * h * len(members) for (w, h), members in waiting.items())
                    > _PENDING * BATCH_PIXELS
                ):
                    made += finish(max(waiting, key=lambda size: len(waiting[size])))
        progress(made + found + len(refused), len(images))
    for size in list(waiting):
        made += finish(size)
        progress(made + found + len(refused), len(images))
    return Outcome(made, found, tuple(refused))


def _claim(output: Path, images: Sequence[ImageFile], legend: bytes) -> None:
    """Makes the folder ready, unless it holds something that must not be replaced."""
    there = output / LEGEND
    try:
        output.mkdir(parents=True, exist_ok=True)
        if there.exists() and there.read_bytes() != legend:
            raise UserError(
                f"{there}: explains masks of another model's classes; name another folder, or "
                "remove this one"
            )
        for source in images:
            for target in (output / source.mask, output / source.overlay):
                if target.exists() and colouring.made_of(target) is None:
                    raise UserError(
                        f"{target}: was not made by dkd predict, and would be replaced; name "
                        "another folder"
                    )
        _clear(output)
    except OSError as error:
        raise UserError(f"{output}: cannot be written: {error.strerror or error}") from None
    _put(there, legend)


def _clear(output: Path) -> None:
    """Removes halves of files that killed calls left; a call that still works is quicker."""
    for folder in (MASKS, OVERLAYS):
        for left in (output / folder).rglob(".*.arriving"):
            with suppress(FileNotFoundError):  # it has arrived, or another call removed it
                if time.time() - left.stat().st_mtime > _ARRIVES_WITHIN:
                    left.unlink()


def _made_of(image: Path, model: str, alpha: float) -> str:
    return f"image {storage.file_sha256(image)}, model {model}, overlay {alpha:g}"


def _is_done(output: Path, source: ImageFile, made_of: str) -> bool:
    targets = (output / source.mask, output / source.overlay)
    return all(t.is_file() and colouring.made_of(t) == made_of for t in targets)


def _is_result(path: Path) -> bool:
    """Whether the file was made here; it is opened only where results may lie."""
    return bool({MASKS, OVERLAYS} & set(path.parts)) and colouring.made_of(path) is not None


def _put(target: Path, data: bytes) -> None:
    """Writes a file that appears whole."""
    arriving = target.with_name(f".{target.name}.{os.getpid()}.arriving")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        arriving.write_bytes(data)
        arriving.replace(target)
    except OSError as error:
        arriving.unlink(missing_ok=True)
        raise UserError(f"{target}: cannot be written: {error.strerror or error}") from None
