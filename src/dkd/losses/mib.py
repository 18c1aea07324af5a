"""MiB: modelling the background (CVPR 2020, arXiv 2002.00718), by one softmax over all channels.

Channel 0 is the background. To the teacher it held every class that came later, and to a later
step's labels it holds every class that came before; so probabilities are added up before they are
compared: those of the old classes in the cross-entropy, those of the new ones in the distillation.
``a`` is the number of channels before the step, the background's among them.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from dkd.data.channels import void_of
from dkd.losses.over_ranks import Average, averaged

_IGNORED = -100  # PyTorch's own, no channel


def cross_entropy_map(logits: Tensor, label: Tensor, old: int) -> Tensor:
    """The unbiased cross-entropy of every pixel, ``N x H x W``; 0 at void.

    Args:
        logits: ``N x A x H x W``.
        label: ``N x H x W``, channel numbers; old ones count as background.
        old: a; 1 at the first step, which is plain cross-entropy.
    """
    total = logits.logsumexp(1, keepdim=True)
    background = logits[:, :old].logsumexp(1, keepdim=True)
    likelihood = torch.cat([background, logits[:, old:]], 1) - total
    target = (label.long() - (old - 1)).clamp(min=0).masked_fill(label == void_of(label), _IGNORED)
    return F.nll_loss(likelihood, target, ignore_index=_IGNORED, reduction="none")


def cross_entropy(
    logits: Tensor,
    label: Tensor,
    old: int,
    void_counts: bool = True,
    average: Average | None = None,
) -> Tensor:
    """Mean of :func:`cross_entropy_map` over pixels.

    Args:
        logits: as there.
        label: likewise.
        old: likewise.
        void_counts: void pixels, whose loss is 0, count in the mean, as in the program.
        average: averages over ranks.
    """
    return mean(cross_entropy_map(logits, label, old), label, void_counts, average)


def distillation(
    logits: Tensor,
    teacher: Tensor,
    label: Tensor,
    void_counts: bool = True,
    average: Average | None = None,
) -> Tensor:
    """The unbiased distillation: to the teacher, a new class was background.

    Args:
        logits: ``N x A x H x W``.
        teacher: ``N x a x H x W``, its logits.
        label: ``N x H x W``, for its void pixels.
        void_counts: void pixels take part.
        average: averages over ranks.

    Returns:
        Mean over pixels and the a channels.
    """
    old = teacher.shape[1]
    total = logits.logsumexp(1, keepdim=True)
    background = torch.cat([logits[:, :1], logits[:, old:]], 1).logsumexp(1, keepdim=True)
    likelihood = torch.cat([background, logits[:, 1:old]], 1) - total
    return mean(-(teacher.softmax(1) * likelihood).mean(1), label, void_counts, average)


def mean(values: Tensor, label: Tensor, void_counts: bool, average: Average | None) -> Tensor:
    """Mean of ``N x H x W`` over pixels, with void ones or without; 0 over nothing."""
    counts = torch.ones_like(values) if void_counts else (label != void_of(label)).to(values.dtype)
    total = averaged(counts.sum(), average)
    return (values * counts).sum() * torch.where(total > 0, 1 / total, 0)


def new_head(weight: Tensor, bias: Tensor, new: int) -> tuple[Tensor, Tensor, Tensor]:
    """How a step's head starts: the background's probability is shared out evenly.

    Args:
        weight: ``C``, the background's.
        bias: scalar, likewise.
        new: number of new classes, V.

    Returns:
        The new head's weight ``V x C`` and bias ``V``, and the background's new bias.
    """
    shared = bias - math.log(new + 1)
    return weight.expand(new, -1).clone(), shared.expand(new).clone(), shared
