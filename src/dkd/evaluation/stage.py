"""The evaluation of a step: its model's confusion matrix, and pictures that go with it."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dkd.data import labels
from dkd.data.loading import EvaluationImages
from dkd.data.records import Record
from dkd.evaluation import pictures
from dkd.evaluation.confusion import ConfusionMatrix
from dkd.evaluation.evaluator import evaluated
from dkd.network.deeplab import SegmentationModel
from dkd.network.preparation import prepare_frozen
from dkd.network.speed import decided
from dkd.steps.step import BY_IMAGE, EVALUATION, Step
from dkd.training.ranks import Ranks


def evaluate(
    step: Step,
    model: SegmentationModel,
    fetch: Callable[[Sequence[Record]], Path],
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
    tested = len(step.test_records)
    matrix = ConfusionMatrix(model.classes + 1, ranks.device, ranks.sum, model.reading, tested)
    counts = evaluated(model, [images], matrix, ranks.device, speed, training.loader_workers)
    by_image = matrix.by_image()
    parts: dict[str, Path] = {}
    if not ranks.first:
        return parts
    document: dict[str, Any] = {
        "classes": [list(names) for names in step.task.upto(step.number).steps],
        "images": len(step.test_records),
        "confusion": counts.tolist(),
        "pictures": [record.id for record in step.picture_records],
    }
    parts[EVALUATION] = work / EVALUATION
    parts[EVALUATION].write_text(json.dumps(document), encoding="utf-8")
    parts[BY_IMAGE] = work / BY_IMAGE
    np.save(parts[BY_IMAGE], by_image.numpy().astype(np.int32), allow_pickle=False)
    return parts | pictures.of_step(step, model, fetch(step.picture_records), ranks.device, work)
