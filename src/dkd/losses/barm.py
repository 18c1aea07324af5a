"""BARM: adapting the background by residuals (ECCV 2024, ANDYZAQ/BARM), one sigmoid per channel.

Head 0 scores the background and its classes; a later head ``k`` scores its classes and, in its
channel 0, a *residual* ``r_k`` that takes from the background what its classes are. Each head reads
a map ``E_k`` of its own.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from dkd.data.channels import void_of
from dkd.losses.over_ranks import Average, averaged

PSEUDO_THRESHOLD = 0.7


def seen(heads: Sequence[Tensor]) -> Tensor:
    """Logits as they are read: background, then all classes, ``N x (1 + K) x h x w``.

    Args:
        heads: what each gives, ``N x (1 + n_k) x h x w``.
    """
    background = heads[0][:, :1]
    for head in heads[1:]:
        background = background + head[:, :1].clamp(max=0)
    return torch.cat([background, *(head[:, 1:] for head in heads)], 1)


def learned(heads: Sequence[Tensor]) -> Tensor:
    """Logits as they are trained: gradient goes into the newest head alone."""
    *old, new = heads
    if not old:
        return new
    known = seen(old).detach()
    return torch.cat([known[:, :1] + new[:, :1], known[:, 1:], new[:, 1:]], 1)


def pseudo_label(teacher: Tensor, label: Tensor) -> Tensor:
    """Labels with what the teacher surely sees in the background, ``N x H x W``, of their type.

    Args:
        teacher: its logits at full resolution, ``N x (1 + K) x H x W``.
        label: ``N x H x W``.
    """
    highest, channel = teacher.sigmoid().max(1)
    sure = (label == 0) & (channel > 0) & (highest >= PSEUDO_THRESHOLD)
    return torch.where(sure, channel.to(label.dtype), label)


def cross_entropy(logits: Tensor, label: Tensor, average: Average | None = None) -> Tensor:
    """Binary cross-entropy against one-hot labels: sum over channels, mean over known pixels.

    Args:
        logits: ``N x A x H x W``.
        label: ``N x H x W``; void is unknown.
        average: averages over ranks.
    """
    known = label != void_of(label)
    numbers = torch.arange(logits.shape[1], device=label.device)[:, None, None]
    target = (label[:, None] == numbers).to(logits.dtype)
    each = F.binary_cross_entropy_with_logits(logits, target, reduction="none").sum(1)
    count = averaged(known.sum().to(each.dtype), average)
    return (each * known).sum() * torch.where(count > 0, 1 / count, 0)


def nearest(label: Tensor, size: tuple[int, int]) -> Tensor:
    """Labels at the features' size: every cell's first row and column. ``N x h x w``."""
    return F.interpolate(label[:, None].float(), size=size, mode="nearest")[:, 0].long()


def background_triplet(
    residual: Tensor, background: Tensor, average: Average | None = None
) -> Tensor:
    """Keeps the residual from taking background: its probability should be over one half there.

    Args:
        residual: r_t, ``N x h x w``.
        background: ``N x h x w``, bool.
        average: averages over ranks.
    """
    probability = residual.sigmoid()
    each = ((1 - probability).square() - probability.square()).clamp(min=0)
    return _mean(each, background, average, 0.0)


def background_zero(residual: Tensor, labelled: Tensor, average: Average | None = None) -> Tensor:
    """Where a new class is labelled the residual takes the background away.

    Args:
        residual: r_t, ``N x h x w``.
        labelled: ``N x h x w``, bool.
        average: averages over ranks.
    """
    return _mean(F.softplus(residual), labelled, average, 1e-8)


def _mean(values: Tensor, where: Tensor, average: Average | None, eps: float) -> Tensor:
    count = averaged(where.sum().to(values.dtype), average)
    return (values * where).sum() * torch.where(count > 0, 1 / (count + eps), 0)


def feature_distillation(
    maps: Sequence[Tensor], teacher: Sequence[Tensor], background: Tensor
) -> Tensor:
    """Mean square difference of the old heads' maps in the background, summed over the heads.

    Args:
        maps: ``E_k`` of the student, old heads only.
        teacher: the teacher's.
        background: ``N x h x w``, bool; the mean is over all cells.
    """
    zero = background.new_zeros((), dtype=torch.get_default_dtype())
    each = (
        (background[:, None] * (ours - theirs).square()).mean()
        for ours, theirs in zip(maps, teacher, strict=True)
    )
    return sum(each, zero)


def group_distillation(heads: Sequence[Tensor], teacher: Sequence[Tensor]) -> Tensor:
    """Cross-entropy of the old heads' channels with the teacher's, means summed over channels."""
    ours, theirs = torch.cat(list(heads), 1), torch.cat(list(teacher), 1)
    each = F.binary_cross_entropy_with_logits(ours, theirs.sigmoid(), reduction="none")
    return each.mean((0, 2, 3)).sum()
