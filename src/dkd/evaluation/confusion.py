"""The confusion matrix, counted where the logits are; scores: :mod:`dkd.evaluation.scores`."""

from collections.abc import Callable

import torch
from torch import Tensor

from dkd.evaluation.evaluator import Batch
from dkd.network.deeplab import USUAL, Reading
from dkd.network.prediction import predict
from dkd.scenario.tasks import VOID


class ConfusionMatrix:
    """An :class:`~dkd.evaluation.evaluator.Evaluator` that counts pixels by true and predicted
    channel, exact, on the predictions' device.

    Args:
        channels: 1 + K.
        device: where predictions and labels are.
        add_up: sums an integer tensor over all ranks; None where there is one.
        reading: of the model whose logits it processes.

    Attributes:
        counts: int64 ``(1 + K) x (1 + K)``, true channels by row, predicted ones by column; this
            rank's.
    """

    def __init__(
        self,
        channels: int,
        device: torch.device | str = "cpu",
        add_up: Callable[[Tensor], Tensor] | None = None,
        reading: Reading = USUAL,
    ) -> None:
        self.counts = torch.zeros(channels, channels, dtype=torch.int64, device=device)
        self._add_up, self._reading = add_up, reading

    def reset(self) -> None:
        """Forgets what was counted."""
        self.counts = torch.zeros_like(self.counts)

    def process(self, logits: Tensor, batch: Batch) -> None:
        """Counts what the model predicts at the labels' size."""
        label = batch["label"]
        size = (label.shape[-2], label.shape[-1])
        self.add(predict(logits, size, reading=self._reading), label)

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

    def result(self) -> Tensor:
        """The counts over all ranks."""
        return self.counts if self._add_up is None else self._add_up(self.counts)
