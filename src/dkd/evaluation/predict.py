"""Segmenting images that no data set knows: coloured masks, overlays and a legend.

A mask is an indexed PNG of the image's size: its values are channel numbers, its palette the
classes' colours. Images are read as training reads them (:mod:`dkd.data.images`): upright.
"""

import io
import json
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from dkd.data import transforms
from dkd.data.images import read_image, upright_size
from dkd.data.palettes import Colour, distinct_colours, voc_colour
from dkd.errors import UserError
from dkd.evaluation.evaluator import segment
from dkd.network.deeplab import SegmentationModel
from dkd.scenario.class_names import ADE20K_CLASSES, VOC_CLASSES

SUFFIXES = (".jpg", ".jpeg", ".png")
LEGEND = "classes.json"

Channels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Source:
    """An image file.

    Attributes:
        path: the file.
        name: what its results are called, with ``/``, without a suffix.
        size: height and width of the upright image, in pixels.
    """

    path: Path
    name: str
    size: tuple[int, int]


def sources(paths: Sequence[Path]) -> list[Source]:
    """The images of files and folders (searched through), in order of their names.

    Args:
        paths: images, and folders; what is no JPEG or PNG file in a folder is passed over.

    Raises:
        UserError: nothing is there, a file is no image, or two results would have one name.
    """
    files: dict[str, Path] = {}
    for path in paths:
        if path.is_dir():
            found = {
                inner.relative_to(path).with_suffix("").as_posix(): inner
                for inner in sorted(path.rglob("*"))
                if inner.suffix.lower() in SUFFIXES and inner.is_file()
            }
            several = len([p for p in path.rglob("*") if p.suffix.lower() in SUFFIXES])
            if not found:
                raise UserError(f"{path}: no JPEG or PNG image in this folder")
            if len(found) < several:
                raise UserError(f"{path}: two images differ in their suffix only; rename one")
        elif path.is_file():
            found = {path.stem: path}
        else:
            raise UserError(f"{path}: no such file or folder")
        for name, file in found.items():
            if name in files:
                raise UserError(f"{file}: {files[name]} has the same name; rename one of them")
            files[name] = file
    return [Source(file, name, upright_size(file)[::-1]) for name, file in sorted(files.items())]


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


def indexed(channels: Channels, colours: Sequence[Colour]) -> bytes:
    """Channel numbers, H x W, as a PNG with a palette."""
    mask = Image.fromarray(channels).convert("P")
    mask.putpalette([level for colour in colours for level in colour])
    buffer = io.BytesIO()
    mask.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def overlay(
    image: Image.Image, channels: Channels, colours: Sequence[Colour], alpha: float
) -> bytes:
    """The image with its classes tinted, as a JPEG; background stays as it is.

    Args:
        image: RGB, H x W.
        channels: H x W.
        colours: by channel.
        alpha: how much of a class's colour, 0..1.
    """
    pixels = np.asarray(image, np.float32)
    tint = np.array(colours, np.float32)[channels]
    share = np.where(channels[..., None] > 0, alpha, 0.0)
    mixed = np.rint(pixels + (tint - pixels) * share).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(mixed).save(buffer, "JPEG", quality=92)
    return buffer.getvalue()


def legend(classes: Sequence[Sequence[str]], colours: Sequence[Colour]) -> list[dict[str, Any]]:
    """What a mask's values mean: value, name, step and colour of each class."""
    rows: list[dict[str, Any]] = [{"value": 0, "name": "background", "colour": list(colours[0])}]
    for step, names in enumerate(classes):
        for name in names:
            value = len(rows)
            rows.append(
                {"value": value, "name": name, "step": step, "colour": list(colours[value])}
            )
    return rows


def batches(images: Sequence[Source], most: int) -> Iterator[list[Source]]:
    """Images of one size together, at most ``most`` at a time."""
    by_size = sorted(images, key=lambda source: (source.size, source.name))
    for _, group in groupby(by_size, key=lambda source: source.size):
        members = list(group)
        for first in range(0, len(members), most):
            yield members[first : first + most]


def predict(
    model: SegmentationModel,
    images: Sequence[Source],
    description: Mapping[str, Any],
    output: Path,
    *,
    device: torch.device,
    batch: int,
    alpha: float,
    progress: Callable[[int, int], None],
) -> None:
    """Segments images into ``output/masks``, ``output/overlays`` and ``output/classes.json``.

    Args:
        model: on any device.
        images: from :func:`sources`.
        description: the checkpoint's, see :mod:`dkd.network.checkpoint`.
        output: folder; made if it is missing, results of the same name are replaced.
        device: where to compute.
        batch: images of one size that are segmented together.
        alpha: of the overlays.
        progress: called with images done and all.

    Raises:
        UserError: an image cannot be decoded, or the folder not be written; then nothing is.
    """
    classes = [name for names in description["classes"] for name in names]
    colours = palette(classes, description["dataset"]["name"])
    crop = int(description["training"]["crop"])
    model = model.to(device).eval()
    try:
        output.mkdir(parents=True, exist_ok=True)
        arriving = Path(tempfile.mkdtemp(prefix=".arriving-", dir=output))
    except OSError as error:
        raise UserError(f"{output}: cannot be written: {error.strerror}") from None
    try:
        done = 0
        for members in batches(images, batch):
            opened = [read_image(source.path) for source in members]
            stacked = torch.stack([_scaled(image, crop) for image in opened])
            predicted = segment(model, stacked.to(device), members[0].size).cpu().numpy()
            for source, image, channels in zip(members, opened, predicted, strict=True):
                _put(arriving, f"masks/{source.name}.png", indexed(channels, colours))
                picture = overlay(image, channels, colours, alpha)
                _put(arriving, f"overlays/{source.name}.jpg", picture)
            done += len(members)
            progress(done, len(images))
        rows = legend(description["classes"], colours)
        _put(arriving, LEGEND, (json.dumps(rows, indent=1) + "\n").encode())
        for file in sorted(path for path in arriving.rglob("*") if path.is_file()):
            target = output / file.relative_to(arriving)
            target.parent.mkdir(parents=True, exist_ok=True)
            file.replace(target)
    except OSError as error:
        raise UserError(f"{output}: cannot be written: {error.strerror or error}") from None
    finally:
        shutil.rmtree(arriving, ignore_errors=True)


def _scaled(image: Image.Image, crop: int) -> Tensor:
    empty = Image.new("L", image.size)
    table = np.zeros(256, np.uint8)
    return transforms.evaluation_sample(image, empty, table, crop, whole=True)[0]


def _put(folder: Path, name: str, data: bytes) -> None:
    target = folder / name
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(data)
