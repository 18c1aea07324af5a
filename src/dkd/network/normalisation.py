"""Batch normalisation that a single value does not stop and that CPU ranks can share."""

from typing import Any, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional as F


class BatchNorm2d(nn.BatchNorm2d):
    """``torch.nn.BatchNorm2d`` with the same parameters, buffers and results, and additions.

    A batch that holds a single value per channel (the image-pooling branch, one image) has no
    variance: it is normalised with the running statistics, which it leaves as they are, instead
    of raising.

    With :attr:`folded` set, the convolution before it does its work (:mod:`dkd.network.folding`).

    With :attr:`synchronised` set, statistics in training mode are those of all ranks' batches
    together, by an all-reduce that works on CPU (gloo), where ``torch.nn.SyncBatchNorm`` does
    not. Every rank ends with the same running statistics.
    """

    folded = False
    synchronised = False

    def forward(self, x: Tensor) -> Tensor:
        """Normalises ``N x C x h x w``."""
        if self.folded:
            return x
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
        y, mean, variance, values = _AcrossRanks.apply(x, self.weight, self.bias, self.eps)
        self._track(mean, variance, values)
        return cast(Tensor, y)

    def _track(self, mean: Tensor, variance: Tensor, values: Tensor) -> None:
        running_mean, running_var = cast(Tensor, self.running_mean), cast(Tensor, self.running_var)
        momentum = cast(float, self.momentum)
        running_mean.lerp_(mean, momentum)
        running_var.lerp_(variance * (values / (values - 1)), momentum)
        cast(Tensor, self.num_batches_tracked).add_(1)


class _AcrossRanks(torch.autograd.Function):
    """Normalisation by the statistics of all ranks' batches: one small all-reduce each way.

    The gradient is that of the ranks' losses together, as ``torch.nn.SyncBatchNorm``'s is; those of
    weight and bias are this rank's own, which DistributedDataParallel averages.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, eps: float
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        # Many times faster on CPU than torch.var_mean, and as safe from large means.
        mean = x.mean((0, 2, 3))
        variance = (x - mean.view(1, -1, 1, 1)).square_().mean((0, 2, 3))
        # One row per rank, so that a sum over ranks gathers every rank's statistics: squares of
        # large means are never subtracted.
        rows = mean.new_zeros(dist.get_world_size(), 3, mean.numel())
        rows[dist.get_rank(), 0], rows[dist.get_rank(), 1] = mean, variance
        rows[dist.get_rank(), 2] = x.numel() / x.shape[1]
        dist.all_reduce(rows)
        means, variances, sizes = rows.unbind(1)
        values = sizes[:, 0].sum()
        mean = (means * sizes).sum(0) / values
        variance = ((variances + (means - mean) ** 2) * sizes).sum(0) / values
        ctx.save_for_backward(x, weight, mean, variance, values)
        ctx.eps = eps
        ctx.mark_non_differentiable(mean, variance, values)
        y = F.batch_norm(x, mean, variance, weight, bias, training=False, eps=eps)
        return y, mean, variance, values

    @staticmethod
    def backward(ctx: Any, dy: Tensor, *_statistics: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        x, weight, mean, variance, values = ctx.saved_tensors
        scaled, d_weight, d_bias = torch.ops.aten.native_batch_norm_backward(
            dy, x, weight, mean, variance, None, None, False, ctx.eps, [True, True, True]
        )
        sums = torch.stack([d_weight, d_bias])
        dist.all_reduce(sums)
        # dx = scale * (dy - mean(dy) - x_hat * mean(dy * x_hat)); its first term is there already,
        # the others are a line in x, which batch normalisation with no statistics draws fastest.
        inverse = torch.rsqrt(variance + ctx.eps)
        slope = -weight * inverse**2 * sums[0] / values
        offset = -weight * inverse * sums[1] / values - slope * mean
        zero, one = torch.zeros_like(mean), torch.ones_like(mean)
        line = F.batch_norm(x, zero, one, slope, offset, training=False, eps=0)
        return scaled.add_(line), d_weight, d_bias, None


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
