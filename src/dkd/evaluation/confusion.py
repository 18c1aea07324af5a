"""Predictions and the confusion matrix, where the logits are.

Scores of it: :mod:`dkd.evaluation.scores`.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from dkd.network.deeplab import upsample

VOID = 255
LOGITS_BYTES = 1 << 28
"""Most bytes of logits at full resolution at a time: classes of a large image go in turns."""


class Likeliest(NamedTuple):
    """Each pixel's likeliest foreground class, whether it is likely or not.

    Attributes:
        logit: ``N x H x W``, its logit.
        channel: ``N x H x W``, uint8, its channel number.
    """

    logit: Tensor
    channel: Tensor


def likeliest(
    logits: Tensor, size: tuple[int, int] | None = None, most_bytes: int = LOGITS_BYTES
) -> Likeliest:
    """The likeliest foreground class of every pixel.

    The classes' logits are enlarged a few at a time, so that a large photograph with many
    classes needs no gigabytes. Of equal logits the lowest channel's counts.

    Args:
        logits: ``N x (1 + K) x h x w``; channel 0, the auxiliary classifier, takes no part.
        size: H, W to enlarge them to; their own if None.
        most_bytes: of enlarged logits at a time.
    """
    height, width = size or (logits.shape[-2], logits.shape[-1])
    logit = logits.new_full((len(logits), height, width), -torch.inf)
    channel = torch.zeros(logit.shape, dtype=torch.uint8, device=logits.device)
    classes = max(1, most_bytes // (logit.numel() * logit.element_size()))
    for first in range(1, logits.shape[1], classes):
        part = logits[:, first : first + classes]
        highest, place = (part if size is None else upsample(part, size)).max(dim=1)
        higher = highest > logit
        logit = torch.where(higher, highest, logit)
        channel = torch.where(higher, (place + first).to(torch.uint8), channel)
    return Likeliest(logit, channel)


def predict(
    logits: Tensor, size: tuple[int, int] | None = None, most_bytes: int = LOGITS_BYTES
) -> Tensor:
    """Logits ``N x (1 + K) x h x w`` to channel numbers ``N x H x W``, uint8.

    The likeliest foreground class where its probability exceeds 0.5, else background (0).
    Classes whose probabilities both round to 1 are told apart by their logits. Arguments as
    :func:`likeliest` takes them.
    """
    found = likeliest(logits, size, most_bytes)
    return torch.where(found.logit.sigmoid() > 0.5, found.channel, 0)


class ConfusionMatrix:
    """Counts of pixels by true and predicted channel, exact, on the predictions' device.

    Attributes:
        counts: int64 ``(1 + K) x (1 + K)``, true channels by row, predicted ones by column.
    """

    def __init__(self, channels: int, device: torch.device | str = "cpu") -> None:
        self.counts = torch.zeros(channels, channels, dtype=torch.int64, device=device)

    def add(self, prediction: Tensor, label: Tensor) -> None:
        """Counts the pixels of predictions and labels of one shape; void (255) labels are not.

        Args:
            prediction: channel numbers 0..K, any integer type.
            label: likewise, or 255.
        """
        channels = len(self.counts)
        cell = label.long() * channels + prediction
        cell = torch.where(label == VOID, channels * channels, cell)
        counts = self.counts.new_zeros(channels * channels + 1)
        # Unlike bincount, this need not ask the device for the largest number first.
        counts.scatter_add_(0, cell.flatten(), counts.new_ones(()).expand(cell.numel()))
        self.counts += counts[:-1].view(channels, channels)

    def reduced(self, add_up: Callable[[Tensor], Tensor]) -> "ConfusionMatrix":
        """The matrix over all ranks; ``add_up`` sums an integer tensor over them."""
        counts = add_up(self.counts)
        matrix = ConfusionMatrix(len(counts), counts.device)
        matrix.counts = counts
        return matrix
