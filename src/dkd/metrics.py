"""Predictions and the confusion matrix, where the logits are. Scores of it: :mod:`dkd.scores`."""

from collections.abc import Callable

import torch
from torch import Tensor

VOID = 255


def predict(logits: Tensor) -> Tensor:
    """Logits ``N x (1 + K) x H x W`` to channel numbers ``N x H x W``, uint8.

    The likeliest foreground class where its probability exceeds 0.5, else background (0);
    channel 0, the auxiliary classifier, takes no part. Classes whose probabilities both round
    to 1 are told apart by their logits.
    """
    highest, channel = logits[:, 1:].max(dim=1)
    return torch.where(highest.sigmoid() > 0.5, channel + 1, 0).to(torch.uint8)


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
        counts = torch.bincount(cell.flatten(), minlength=channels * channels + 1)
        self.counts += counts[:-1].view(channels, channels)

    def reduced(self, add_up: Callable[[Tensor], Tensor]) -> "ConfusionMatrix":
        """The matrix over all ranks; ``add_up`` sums an integer tensor over them."""
        counts = add_up(self.counts)
        matrix = ConfusionMatrix(len(counts), counts.device)
        matrix.counts = counts
        return matrix
