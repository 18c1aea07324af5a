"""Scoring a model on the test images of a step, and the pictures that go with it."""

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from dkd.data import labels
from dkd.data.images import read_image
from dkd.data.index import Record
from dkd.data.loading import EvaluationImages, load_to_score
from dkd.evaluation.confusion import ConfusionMatrix
from dkd.network.deeplab import SegmentationModel
from dkd.network.prediction import LOGITS_BYTES, predict
from dkd.network.preparation import prepare_frozen, prepare_images
from dkd.network.speed import decided
from dkd.scenario.schema import Speed
from dkd.steps.step import Step
from dkd.training.ranks import Ranks

EVALUATION = "evaluation.json"
PICTURE_SIDE = 256


def confusion_matrix(
    model: SegmentationModel,
    images: EvaluationImages,
    ranks: Ranks,
    speed: Speed,
    workers: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> ConfusionMatrix:
    """The model's confusion matrix over the images, summed over the ranks: exact, none twice.

    Args:
        model: on this rank's device, from :func:`dkd.network.preparation.prepare_frozen`.
        images: this rank's share of the test images.
        ranks: this process's place.
        speed: decided switches.
        workers: loader processes; 0 loads in this one.
        progress: called with this rank's images done and all of them.
    """
    matrix = ConfusionMatrix(model.classes + 1, ranks.device)
    batches = load_to_score(
        images, speed.evaluation_batch or 1, workers, ranks.device, bool(speed.prefetch)
    )
    done = 0
    for batch in batches:
        image = prepare_images(batch["image"], model, speed)
        label = batch["label"]
        matrix.add(segment(model, image, (label.shape[-2], label.shape[-1])), label)
        done += len(label)
        if progress is not None:
            progress(done, len(images))
    return matrix.reduced(ranks.sum)


@torch.inference_mode()
def segment(
    model: SegmentationModel,
    images: Tensor,
    size: tuple[int, int],
    most_bytes: int = LOGITS_BYTES,
) -> Tensor:
    """Normalised images ``N x 3 x h x w`` to predicted channels ``N x H x W`` at ``size``, uint8.

    Args:
        model: in eval mode, on the images' device.
        images: likewise.
        size: H, W of the result.
        most_bytes: of enlarged logits at a time.
    """
    features = model.features(images)
    logits = model.logits(features, (features.shape[-2], features.shape[-1]))
    return predict(logits, size, most_bytes)


def evaluate(
    step: Step,
    model: SegmentationModel,
    fetch: Callable[[tuple[Record, ...]], Path],
    ranks: Ranks,
    work: Path,
) -> dict[str, Path]:
    """Scores a step's model and draws the reference pictures.

    Args:
        step: the step.
        model: its model; it is prepared for speed in place.
        fetch: gives a folder in which the files of these records can be read.
        ranks: this process's place.
        work: folder for the parts, on rank 0.

    Returns:
        The evaluation's parts by name; complete on rank 0.
    """
    training = step.scenario.training
    speed = decided(step.scenario.speed, gpu=ranks.device.type == "cuda")
    model = prepare_frozen(model.to(ranks.device), speed)
    crop, whole = training.crop, step.protocol.whole_image_evaluation
    table = labels.test_table(step.dataset, step.task, step.number)
    images = EvaluationImages(
        step.test_records,
        fetch(step.test_records),
        table,
        crop=crop,
        whole=whole,
        rank=ranks.rank,
        world_size=ranks.world_size,
    )
    matrix = confusion_matrix(model, images, ranks, speed, training.loader_workers)
    parts: dict[str, Path] = {}
    if not ranks.first:
        return parts
    document: dict[str, Any] = {
        "classes": [list(names) for names in step.task.upto(step.number).steps],
        "images": len(step.test_records),
        "confusion": matrix.counts.tolist(),
        "pictures": [record.id for record in step.picture_records],
    }
    parts[EVALUATION] = work / EVALUATION
    parts[EVALUATION].write_text(json.dumps(document), encoding="utf-8")
    folder = fetch(step.picture_records)
    full = labels.full_table(step.dataset, step.task)
    pictures = EvaluationImages(step.picture_records, folder, full, crop=crop, whole=True)
    for number, record in enumerate(step.picture_records):
        item = pictures[number]
        size = _within(record.height, record.width)
        image = item["image"][None].to(ranks.device)
        prediction = segment(model, image, size)[0].cpu().numpy()
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
