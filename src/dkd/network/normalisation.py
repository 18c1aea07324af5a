"""Batch normalisation that a single value does not stop and that CPU ranks can share."""

from typing import cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.nn.functional import all_reduce
from torch.nn import functional as F


class BatchNorm2d(nn.BatchNorm2d):
    """``torch.nn.BatchNorm2d`` with the same parameters, buffers and results, and two additions.

    A batch that holds a single value per channel (the image-pooling branch, one image) has no
    variance: it is normalised with the running statistics, which it leaves as they are, instead
    of raising.

    With :attr:`synchronised` set, statistics in training mode are those of all ranks' batches
    together, by a differentiable all-reduce that works on CPU (gloo), where
    ``torch.nn.SyncBatchNorm`` does not. Every rank ends with the same running statistics.
    """

    synchronised = False

    def forward(self, x: Tensor) -> Tensor:
        """Normalises ``N x C x h x w``."""
        if not self.training:
            return super().forward(x)
        if self.synchronised and dist.is_initialized() and dist.get_world_size() > 1:
            return self._across_ranks(x)
        if x.numel() == x.shape[1]:
            return F.batch_norm(
                x, self.running_mean, self.running_var, self.weight, self.bias, False, 0, self.eps
            )
        return super().forward(x)

    def _across_ranks(self, x: Tensor) -> Tensor:
        values = x.transpose(0, 1).flatten(1).float()
        variance, mean = torch.var_mean(values, dim=1, correction=0)
        # One row per rank, so that a sum over ranks gathers every rank's statistics, and the
        # sum's gradient finds its way back to each: squares of large means are never subtracted.
        mine = torch.stack([mean, variance, torch.full_like(mean, values.shape[1])])
        rows = torch.zeros(dist.get_world_size(), *mine.shape, device=x.device)
        rows = rows.index_copy(0, torch.tensor([dist.get_rank()], device=x.device), mine[None])
        means, variances, sizes = all_reduce(rows).unbind(1)  # type: ignore[no-untyped-call]
        total = sizes.sum(0)
        mean = (means * sizes).sum(0) / total
        variance = ((variances + (means - mean) ** 2) * sizes).sum(0) / total
        self._track(mean.detach(), variance.detach(), total[0].detach())
        scale = self.weight * torch.rsqrt(variance + self.eps)
        shift = self.bias - mean * scale
        column = (1, -1, 1, 1)
        y: Tensor = x * scale.view(column) + shift.view(column)
        return y.to(x.dtype)

    def _track(self, mean: Tensor, variance: Tensor, values: Tensor) -> None:
        running_mean, running_var = cast(Tensor, self.running_mean), cast(Tensor, self.running_var)
        momentum = cast(float, self.momentum)
        running_mean.lerp_(mean, momentum)
        running_var.lerp_(variance * (values / (values - 1)), momentum)
        cast(Tensor, self.num_batches_tracked).add_(1)


def synchronise(model: nn.Module) -> None:
    """Makes batch normalisation share its statistics across ranks: for step 0, more than one rank.

    In place. On a GPU the layers become ``torch.nn.SyncBatchNorm``, as in the released
    program; on CPU :class:`BatchNorm2d` synchronises itself. Keys of the state do not change.
    """
    if next(model.parameters()).is_cuda:
        nn.SyncBatchNorm.convert_sync_batchnorm(model)  # type: ignore[no-untyped-call]
        return
    for module in model.modules():
        if isinstance(module, BatchNorm2d):
            module.synchronised = True
