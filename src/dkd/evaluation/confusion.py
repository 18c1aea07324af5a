"""The confusion matrix, where the predictions are.

Scores of it: :mod:`dkd.evaluation.scores`.
"""

from collections.abc import Callable

import torch
from torch import Tensor

VOID = 255


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
