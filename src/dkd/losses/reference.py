"""The loss of a step as its definition reads, in PyTorch's own functions.

What :mod:`dkd.losses.blockwise` computes block by block is written out here: logits and targets
at full resolution, ``binary_cross_entropy_with_logits``, gradients by autograd. It is what the fast
form is compared with, and what ``speed.block_losses: false`` trains with; it takes many times
the memory (``benchmarks/README.md``).
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from dkd.data.channels import void_of
from dkd.losses.terms import Losses, LossWeights
from dkd.network.deeplab import USUAL, Output, Reading, upsample


def total(
    student: Output,
    teacher: Output | None,
    label: Tensor,
    *,
    weights: LossWeights,
    covers: range,
    pos_weight: float | Tensor = 1.0,
    void_is_negative: bool = False,
    covered: Tensor | None = None,
    average: Callable[[Tensor], Tensor] | None = None,
    reading: Reading = USUAL,
) -> Losses:
    """As :func:`dkd.losses.blockwise.total`, argument by argument.

    Raises:
        ValueError: the weights ask for distillation, but there is no teacher.
    """
    if weights.distils and teacher is None:
        raise ValueError("the loss weights ask for distillation, but there is no teacher")
    with torch.autocast(label.device.type, enabled=False):
        x = upsample(student.logits, (label.shape[-2], label.shape[-1]), reading)
        classes = x.shape[1] - 1
        void = (label == void_of(label))[:, None]
        valid = torch.ones_like(void) if void_is_negative else ~void
        if covered is None:
            number = torch.arange(1, 1 + classes, device=label.device)
            row = (number >= covers.start) & (number < covers.stop)
            covered = row.expand(len(x), -1)

        def mean(values: Tensor, counts: Tensor) -> Tensor:
            """Mean over images and pixels per class, then the sum over classes."""
            counts = counts.to(values.dtype).expand_as(values)
            of_class = counts.sum((0, 2, 3))
            if average is not None:
                of_class = average(of_class)
            share = torch.where(of_class > 0, 1 / of_class, 0)
            return ((values * counts).sum((0, 2, 3)) * share).sum()

        terms: dict[str, Tensor] = {}
        if weights.mbce:
            here = torch.arange(1, 1 + classes, device=label.device)[:, None, None]
            target = ((label[:, None].long() == here) & ~void).to(x.dtype)
            weight = torch.full_like(here, 1, dtype=x.dtype)
            weight *= pos_weight[1:, None, None] if isinstance(pos_weight, Tensor) else pos_weight
            each = F.binary_cross_entropy_with_logits(
                x[:, 1:], target, pos_weight=weight, reduction="none"
            )
            terms["mbce"] = mean(each, covered[:, :, None, None] & valid)
        if teacher and weights.kd:
            target = upsample(teacher.logits, (x.shape[-2], x.shape[-1]), reading)[:, 1:].sigmoid()
            terms["kd"] = mean(_bce(x[:, 1 : 1 + target.shape[1]], target), valid)
        everywhere = torch.ones_like(void[:, :, :1, :1])
        if teacher and weights.dkd_pos:
            terms["dkd_pos"] = mean(_soft(student.positive, teacher.positive), everywhere)
        if teacher and weights.dkd_neg:
            terms["dkd_neg"] = mean(_soft(student.negative, teacher.negative), everywhere)
        if weights.ac:
            terms["ac"] = mean(_bce(x[:, :1], torch.zeros_like(x[:, :1])), valid)
        loss = sum((getattr(weights, name) * term for name, term in terms.items()), x.new_zeros(()))
    return Losses(loss, {name: term.detach() for name, term in terms.items()})


def _soft(ours: Tensor, theirs: Tensor) -> Tensor:
    """Cross-entropy of logits with the teacher's probabilities, at least in float32."""
    if ours.dtype in (torch.bfloat16, torch.float16):
        ours, theirs = ours.float(), theirs.float()
    return _bce(ours, theirs.sigmoid())


def _bce(logits: Tensor, target: Tensor) -> Tensor:
    return F.binary_cross_entropy_with_logits(logits, target, reduction="none")
