"""Asking a model about images: one walk over them for whatever is to be found out."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor

from dkd.data.loading import EvaluationImages, load_to_score
from dkd.network.deeplab import SegmentationModel
from dkd.network.preparation import prepare_images
from dkd.scenario.speed import Speed

R_co = TypeVar("R_co", covariant=True)

EvaluationBatch = Mapping[str, Any]
"""What :func:`dkd.data.loading.load_to_score` yields, and its images' ``records`` and ``places``
among those of all ranks."""


class Evaluator(Protocol[R_co]):
    """Finds out something about a model, image by image (as detectron2's evaluators do)."""

    def reset(self) -> None:
        """Begins anew."""

    def process(self, logits: Tensor, batch: EvaluationBatch) -> None:
        """Takes in a batch of this rank's.

        Args:
            logits: ``N x (1 + K) x h x w`` at feature resolution.
            batch: the images that they are of, with ``label`` ``N x H x W``.
        """

    def result(self) -> R_co:
        """What was found, over all ranks; called on all of them."""


@torch.inference_mode()
def evaluated(
    model: SegmentationModel,
    images: Iterable[EvaluationImages],
    evaluator: Evaluator[R_co],
    device: torch.device,
    speed: Speed,
    workers: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> R_co:
    """What the evaluator finds out about the model on the images, each looked at once.

    Args:
        model: on the device, from :func:`dkd.network.preparation.prepare_frozen`.
        images: this rank's shares, one after the other.
        evaluator: begun anew here.
        device: this rank's.
        speed: decided switches.
        workers: loader processes; 0 loads in this one.
        progress: called with this rank's images done and all of them.
    """
    evaluator.reset()
    shares = list(images)
    done, whole = 0, sum(map(len, shares))
    for share in shares:
        for batch in load_to_score(
            share, speed.evaluation_batch or 1, workers, device, bool(speed.prefetch)
        ):
            features = model.features(prepare_images(batch["image"], model, speed))
            logits = model.logits(features)
            indices = batch["index"].tolist()
            records = [share.records[index] for index in indices]
            places = [share.places[index] for index in indices]
            evaluator.process(logits, {**batch, "records": records, "places": places})
            done += len(records)
            if progress is not None:
                progress(done, whole)
    return evaluator.result()
