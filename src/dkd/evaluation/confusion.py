"""The confusion matrix, counted where the logits are; scores: :mod:`dkd.evaluation.scores`."""

from collections.abc import Callable

import torch
from torch import Tensor

from dkd.data.channels import void_of
from dkd.evaluation.evaluator import EvaluationBatch
from dkd.network.deeplab import USUAL, Reading
from dkd.network.prediction import predict


class ConfusionMatrix:
    """An :class:`~dkd.evaluation.evaluator.Evaluator` that counts pixels by true and predicted
    channel, exact, on the predictions' device.

    Args:
        channels: 1 + K.
        device: where predictions and labels are.
        add_up: sums an integer tensor over all ranks; None where there is one.
        reading: of the model whose logits it processes.
        images: number of images over all ranks, where :meth:`by_image` is wanted.

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
        images: int = 0,
    ) -> None:
        self.counts = torch.zeros(channels, channels, dtype=torch.int64, device=device)
        self._by_image = torch.zeros(images, 3, channels, dtype=torch.int64, device=device)
        self._add_up, self._reading = add_up, reading

    def reset(self) -> None:
        """Forgets what was counted."""
        self.counts = torch.zeros_like(self.counts)
        self._by_image = torch.zeros_like(self._by_image)

    def process(self, logits: Tensor, batch: EvaluationBatch) -> None:
        """Counts what the model predicts at the labels' size."""
        label = batch["label"]
        size = (label.shape[-2], label.shape[-1])
        matrices = self._matrices(predict(logits, size, reading=self._reading), label)
        self.counts += matrices.sum(0)
        if len(self._by_image):
            right, true = matrices.diagonal(dim1=1, dim2=2), matrices.sum(2)
            self._by_image[batch["places"]] = torch.stack((right, true, matrices.sum(1)), 1)

    def add(self, prediction: Tensor, label: Tensor) -> None:
        """Counts the pixels of predictions and labels of one shape; void labels are not.

        Args:
            prediction: channel numbers 0..K, any integer type, ``N x H x W``.
            label: likewise, or void.
        """
        self.counts += self._matrices(prediction, label).sum(0)

    def _matrices(self, prediction: Tensor, label: Tensor) -> Tensor:
        """Each image's counts, ``N x (1 + K) x (1 + K)``."""
        images, channels = len(label), len(self.counts)
        cells = channels * channels + 1  # the last one takes the void
        cell = label.long() * channels + prediction
        cell = torch.where(label == void_of(label), cells - 1, cell).reshape(images, -1)
        cell = cell + cells * torch.arange(images, device=cell.device)[:, None]
        counts = self.counts.new_zeros(images * cells)
        # Unlike bincount, this need not ask the device for the largest number first.
        counts.scatter_add_(0, cell.flatten(), counts.new_ones(()).expand(cell.numel()))
        return counts.view(images, cells)[:, :-1].view(images, channels, channels)

    def result(self) -> Tensor:
        """The counts over all ranks."""
        return self.counts if self._add_up is None else self._add_up(self.counts)

    def by_image(self) -> Tensor:
        """Each image's pixels over all ranks, on the CPU; to be called on all of them.

        Returns:
            int64 ``images x 3 x (1 + K)``: pixels of a channel that are right, true, predicted.
        """
        return self._by_image.cpu() if self._add_up is None else self._add_up(self._by_image)
