"""Pictures as files: a step's reference images, each with its truth and prediction."""

import io
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from dkd.data import labels
from dkd.data.images import read_image
from dkd.data.loading import EvaluationImages
from dkd.network.deeplab import SegmentationModel
from dkd.network.prediction import segment
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
        truth = np.asarray(Image.fromarray(item["label"].numpy()).resize(size[::-1], 0))
        photograph = read_image(folder / record.image).resize(size[::-1])
        for name, data in (
            ("prediction.png", png(prediction)),
            ("truth.png", png(truth)),
            ("image.jpg", jpeg(photograph)),
        ):
            part = f"pictures/{number}.{name}"
            parts[part] = work / part.replace("/", "-")
            parts[part].write_bytes(data)
    return parts


def png(channels: np.ndarray) -> bytes:
    """A map of channel numbers, H x W uint8, as a grey PNG."""
    buffer = io.BytesIO()
    Image.fromarray(channels.astype(np.uint8)).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def jpeg(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=88)
    return buffer.getvalue()


def _within(height: int, width: int, side: int = PICTURE_SIDE) -> tuple[int, int]:
    """The size, shrunk if needed so that the longer side is at most ``side`` pixels."""
    scale = min(1.0, side / max(height, width))
    return max(1, round(height * scale)), max(1, round(width * scale))
