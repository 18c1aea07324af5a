"""A checkpoint that segments images: what :func:`dkd.load` gives."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import overload

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from dkd.data import transforms
from dkd.data.channels import Channels
from dkd.data.images import (
    BATCH_PIXELS,
    LARGEST_TO_PREDICT,
    at_a_time,
    read_image,
    take_picture,
)
from dkd.errors import UserError
from dkd.network.checkpoint import Fetched, fetch
from dkd.network.deeplab import Reading, upsample
from dkd.network.prediction import by_class, predict, predict_rows
from dkd.scenario.names import BACKGROUND_NAME

Photograph = str | Path | Image.Image | npt.NDArray[np.uint8]
"""An image file, a Pillow image, or RGB pixels ``H x W x 3`` (grey: ``H x W``), uint8."""


ROWS_PIXELS = 4 * 1024 * 1024
"""Pixels of a large image that are enlarged and compared at a time."""


@dataclass(frozen=True)
class Segmentation:
    """What a model sees in an image.

    Attributes:
        mask: channel numbers, ``H x W`` at the image's own size, upright; uint8, or int32 beyond
            254 classes.
        class_names: by channel number: background, then the classes in the order of learning.
        probabilities: float32 ``K x H x W`` in 0..1, of the classes 1..K in the same order; None
            unless asked for. They are independent of each other: where none is over 0.5 the
            pixel is background.
    """

    mask: Channels
    class_names: tuple[str, ...]
    probabilities: npt.NDArray[np.float32] | None = None

    @property
    def found(self) -> tuple[str, ...]:
        """Names of the classes in the mask, without background, in channel order."""
        return tuple(self.class_names[n] for n in np.unique(self.mask).tolist() if n)


class Segmenter:
    """A trained model, ready for images of any size.

    Args:
        checkpoint: what was fetched; its model is moved.
        device: where to compute.

    Attributes:
        class_names: by channel number: background, then the classes in the order of learning.
        steps: class names by the step that they were learned at, without background.
        dataset: name of the data set that the model learned from.
        digest: the checkpoint's.
    """

    def __init__(self, checkpoint: Fetched, device: torch.device) -> None:
        model, description, self.digest = checkpoint
        self.steps = tuple(tuple(str(name) for name in names) for names in description["classes"])
        self.class_names = (BACKGROUND_NAME, *(name for names in self.steps for name in names))
        self.dataset = str(description["dataset"]["name"])
        self._short_side = int(description["training"]["crop"])
        self._device = device
        self._model = model.to(device).eval()

    @classmethod
    def load(cls, checkpoint: str | Path, device: str | None = None) -> "Segmenter":
        """The model of a checkpoint, downloaded and verified once per machine.

        Args:
            checkpoint: URI or folder of the artifact, as a run names it.
            device: ``cpu``, ``cuda`` or ``cuda:1``; a GPU where there is one if None.

        Raises:
            UserError: nothing is there, it is no checkpoint, or it is damaged; or there is no
                such device.
        """
        chosen = _device(device)
        return cls(fetch(str(checkpoint)), chosen)

    @overload
    def predict(  # type: ignore[overload-overlap]  # a str is a sequence of str, but one image
        self, images: Photograph, *, probabilities: bool = False
    ) -> Segmentation: ...

    @overload
    def predict(
        self, images: Sequence[Photograph], *, probabilities: bool = False, batch: int = 8
    ) -> list[Segmentation]: ...

    def predict(
        self,
        images: Photograph | Sequence[Photograph],
        *,
        probabilities: bool = False,
        batch: int = 8,
    ) -> Segmentation | list[Segmentation]:
        """Segments one image, or several.

        An image's short side is resized to what the model was trained with; the mask has the
        size of the image, upright as its EXIF orientation says.

        Args:
            images: one, or a list of them.
            probabilities: keep the classes' probabilities too: four bytes a class and pixel.
            batch: most neighbours of one size in the list that go through the network together;
                fewer of large ones (:data:`dkd.data.images.BATCH_PIXELS`).

        Returns:
            The image's segmentation, or those of all in their order.

        Raises:
            UserError: an image cannot be read, or is none; nothing is returned then.
        """
        if isinstance(images, str | Path | Image.Image | np.ndarray):
            return self._together([opened(images)], probabilities)[0]
        return list(self._in_batches(map(opened, images), probabilities, batch))

    def _in_batches(
        self, images: Iterable[Image.Image], probabilities: bool, most: int
    ) -> Iterator[Segmentation]:
        for size, alike in groupby(images, key=lambda image: image.size):
            members: list[Image.Image] = []
            for image in alike:
                members.append(image)
                if len(members) == at_a_time(most, *size):
                    yield from self._together(members, probabilities)
                    members = []
            if members:
                yield from self._together(members, probabilities)

    @torch.inference_mode()
    def _together(self, images: Sequence[Image.Image], probabilities: bool) -> list[Segmentation]:
        """RGB images of one size."""
        size = (images[0].height, images[0].width)
        inputs = torch.stack([_scaled(image, self._short_side) for image in images])
        features = self._model.features(inputs.to(self._device))
        logits = self._model.logits(features)
        reading = self._model.reading
        masks = _masks(logits, size, reading)
        if not probabilities:
            return [Segmentation(mask, self.class_names) for mask in masks]
        likely = [
            by_class(upsample(each[None], size, reading), reading)[0, 1:].sigmoid().float()
            for each in logits
        ]
        return [
            Segmentation(mask, self.class_names, each.cpu().numpy())
            for mask, each in zip(masks, likely, strict=True)
        ]


def _masks(logits: Tensor, size: tuple[int, int], reading: Reading) -> Channels:
    """Channel numbers ``N x H x W``; of a large image row by row, so that they fit into memory."""
    height, width = size
    if height * width <= BATCH_PIXELS:
        whole: Channels = predict(logits, size, reading=reading).cpu().numpy()
        return whole
    step = max(1, ROWS_PIXELS // width)
    parts = (
        predict_rows(logits, size, range(top, min(height, top + step)), reading).cpu().numpy()
        for top in range(0, height, step)
    )
    first = next(parts)
    masks: Channels = np.empty((len(logits), height, width), first.dtype)
    masks[:, :step] = first
    for number, part in enumerate(parts, start=1):
        masks[:, number * step : (number + 1) * step] = part
    return masks


def opened(image: Photograph) -> Image.Image:
    """An image as 8-bit RGB, upright.

    Raises:
        UserError: it cannot be read, or is none.
    """
    if isinstance(image, str | Path):
        return read_image(Path(image), LARGEST_TO_PREDICT)
    if isinstance(image, Image.Image):
        return take_picture(image, "image", LARGEST_TO_PREDICT)
    if image.dtype != np.uint8 or image.ndim not in (2, 3) or image.shape[2:] not in ((), (3,)):
        raise UserError(
            f"image: an array of {image.dtype}, shape {image.shape}; give uint8 of H x W x 3 (RGB) "
            "or H x W (grey), and several images as a list"
        )
    return take_picture(Image.fromarray(image), "image", LARGEST_TO_PREDICT)


def _scaled(image: Image.Image, short_side: int) -> Tensor:
    """float32 3 x h x w, normalised."""
    empty = Image.new("L", image.size)
    table = np.zeros(256, np.uint8)
    return transforms.evaluation_sample(image, empty, table, short_side, whole=True)[0]


def _device(name: str | None) -> torch.device:
    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise UserError(f"device {name!r}: give cpu, cuda or cuda:N") from None
    count = torch.cuda.device_count()
    if device.type not in ("cpu", "cuda") or (
        device.type == "cuda" and (device.index or 0) >= count
    ):
        raise UserError(f"device {name!r}: this machine has {count} GPUs that torch can use")
    return device
