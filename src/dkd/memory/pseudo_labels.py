"""Old classes that a model is sure to see where a mask shows background."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from dkd.evaluation.evaluator import EvaluationBatch
from dkd.network.deeplab import USUAL, Reading
from dkd.network.prediction import likeliest

THRESHOLD = 0.9


def pseudo_classes(
    logits: Tensor, label: Tensor, threshold: float = THRESHOLD, reading: Reading = USUAL
) -> Tensor:
    """Which classes the model sees in the images' background.

    A background pixel counts as the likeliest foreground class if that class's probability is
    at least the threshold, as in the released program. Labelled and void pixels count as
    nothing.

    Args:
        logits: ``N x (1 + K) x h x w``, enlarged to the labels' size here; channel 0, the
            auxiliary classifier, takes no part.
        label: ``N x H x W`` in channel numbers, any integer type, on the same device.
        threshold: lowest probability that counts.
        reading: the model's.

    Returns:
        ``N x (1 + K)``, bool, on the same device; False for channel 0.
    """
    found = likeliest(logits, (label.shape[-2], label.shape[-1]), reading=reading)
    sure = (label == 0) & (found.logit.sigmoid() >= threshold)
    channel = torch.where(sure, found.channel, 0).flatten(1).long()
    count = reading.classes[-1] + 1 if reading.classes else logits.shape[1]
    seen = torch.zeros(len(logits), count, dtype=torch.bool, device=logits.device)
    seen.scatter_(1, channel, True)
    seen[:, 0] = False
    return seen


class SeenInBackground:
    """An :class:`~dkd.evaluation.evaluator.Evaluator`: which classes the model is sure to see in
    the background of each image.

    Args:
        gather: every rank's value, on every rank.
        reading: the model's.
    """

    def __init__(self, gather: Callable[[Any], list[Any]], reading: Reading = USUAL) -> None:
        self._gather, self._reading = gather, reading
        self.reset()

    def reset(self) -> None:
        """Forgets what was seen."""
        self._names, self._seen = list[str](), list[Tensor]()

    def process(self, logits: Tensor, batch: EvaluationBatch) -> None:
        """Looks at a batch; nothing waits for the device here."""
        self._names += [f"{record.id} {record.digest}" for record in batch["records"]]
        self._seen.append(pseudo_classes(logits, batch["label"], reading=self._reading))

    def result(self) -> dict[str, set[int]]:
        """Channel numbers by ``<id> <digest>`` of the image, of all ranks' images."""
        rows = torch.cat(self._seen).cpu().tolist() if self._seen else []
        mine = {
            name: {channel for channel, found in enumerate(row) if found}
            for name, row in zip(self._names, rows, strict=True)
        }
        return {name: found for part in self._gather(mine) for name, found in part.items()}
