"""Pictures as files: a step's reference images, each with its truth and prediction."""

import io
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from dkd.data import labels
from dkd.data.channels import Channels, void_of
from dkd.data.images import read_image
from dkd.data.loading import EvaluationImages
from dkd.network.deeplab import SegmentationModel
from dkd.network.prediction import segment
from dkd.scenario.tasks import WIDE_VOID
from dkd.steps.step import Step

PICTURE_SIDE = 256
"""Most pixels of a picture's longer side."""


def of_step(
    step: Step, model: SegmentationModel, folder: Path, device: torch.device, work: Path
) -> dict[str, Path]:
    """What the step's model sees in the step's reference images.

    Args:
        step: the step.
        model: its model, prepared, on the device.
        folder: in which the images lie.
        device: where to compute.
        work: folder for the files.

    Returns:
        The files by part, ``pictures/N.{prediction,truth}.png`` and ``pictures/N.image.jpg``.
    """
    parts: dict[str, Path] = {}
    table = labels.full_table(step.dataset, step.task)
    crop = step.scenario.training.crop
    images = EvaluationImages(step.picture_records, folder, table, crop=crop, whole=True)
    for number, record in enumerate(step.picture_records):
        item = images[number]
        size = _within(record.height, record.width)
        prediction = segment(model, item["image"][None].to(device), size)[0].cpu().numpy()
        truth = _storable(item["label"].numpy()).resize(size[::-1], Image.Resampling.NEAREST)
        photograph = read_image(folder / record.image).resize(size[::-1])
        for name, data in (
            ("prediction.png", png(prediction)),
            ("truth.png", _png(truth)),
            ("image.jpg", jpeg(photograph)),
        ):
            part = f"pictures/{number}.{name}"
            parts[part] = work / part.replace("/", "-")
            parts[part].write_bytes(data)
    return parts


def png(channels: Channels) -> bytes:
    """Channel numbers, H x W, as a grey PNG: of 8 bits, or of 16 whose void is 65,535."""
    return _png(_storable(channels))


def _storable(channels: Channels) -> Image.Image:
    if channels.dtype != np.uint8:
        void = channels == void_of(channels)
        channels = np.where(void, WIDE_VOID, channels).astype(np.uint16)
    return Image.fromarray(channels)


def _png(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def jpeg(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=88)
    return buffer.getvalue()


def _within(height: int, width: int, side: int = PICTURE_SIDE) -> tuple[int, int]:
    """The size, shrunk if needed so that the longer side is at most ``side`` pixels."""
    scale = min(1.0, side / max(height, width))
    return max(1, round(height * scale)), max(1, round(width * scale))
