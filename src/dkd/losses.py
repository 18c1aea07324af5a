"""The loss of a step: DKD's terms (paper, section 3.2), their values and gradients.

Every term is a binary cross-entropy with logits, averaged over images and pixels per class and
summed over classes. Three terms act at full resolution, where logits are what costs: 111
channels of 24 crops of 512 pixels are 2.8 GB. Nothing of that size is kept. With U the bilinear
interpolation, x the logits at feature resolution and t the teacher's,

- the untargeted part of every cross-entropy is softplus(Ux), whose gradient is U'sigmoid(Ux);
- a hard target changes that at the labelled channel of each pixel alone: one value per pixel,
  not one per pixel and class;
- a soft target enters linearly, sum(Ux sigmoid(Ut)) = sum(x U'sigmoid(Ut)), so that student
  and teacher never meet at full resolution.

So the forward pass walks over blocks of images and channels, interpolates, and comes back to
feature resolution with the values *and* the gradient; the backward pass has nothing left to do.
U is applied as two matrix products, which makes its transpose deterministic on a GPU too.
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from dkd.methods import LossWeights
from dkd.network.deeplab import Output

VOID = 255

# Values of a block at full resolution: it stays in a CPU's cache, or fills a GPU.
_BLOCK = {"cpu": 1 << 21, "cuda": 1 << 26}

# The largest fp16. A logit beyond it is an overflow of a low-precision network; an infinity
# would become NaN as soon as it is interpolated or weighted by 0.
_LARGEST = 65504.0


class Losses(NamedTuple):
    """The loss of a batch.

    Attributes:
        total: weighted sum of the terms, a scalar to call ``backward`` on.
        terms: each term by its name in :class:`dkd.methods.LossWeights`, unweighted and
            detached; a term of weight 0 is left out.
    """

    total: Tensor
    terms: dict[str, Tensor]


def total(
    student: Output,
    teacher: Output | None,
    label: Tensor,
    *,
    weights: LossWeights,
    covers: range,
    pos_weight: float = 1.0,
    void_is_negative: bool = False,
    covered: Tensor | None = None,
    average: Callable[[Tensor], Tensor] | None = None,
) -> Losses:
    """The loss of a batch, with every term that has a weight.

    Computed in float32 or float64, whatever autocast says. Never NaN unless a logit is: a mean
    over nothing is 0, and logits beyond fp16's range count as that range's end.

    Args:
        student: what the student gave; with ``decomposed`` = number of old classes if the
            weights ask for the decomposed terms.
        teacher: what the teacher gave, likewise; None where nothing is distilled.
        label: ``N x H x W`` in channel numbers (0 background, 255 void), any integer type.
        weights: weights of the terms.
        covers: channels that the mBCE covers, e.g. those of the new classes.
        pos_weight: weight of the mBCE's positive term.
        void_is_negative: void pixels are background in the mBCE and take part in KD and AC;
            otherwise these three are means over the other pixels.
        covered: ``N x K``, whether the mBCE covers class ``k + 1`` in image ``n``, instead of
            ``covers`` in every image; each class's mean is over the images that cover it.
        average: averages a tensor over ranks. With it, every pixel counts alike even if some
            ranks have more images, or less void, than others: the mean of the ranks' losses is
            the loss of their batches together. One small vector is communicated per call.

    Raises:
        ValueError: the weights ask for distillation, but there is no teacher.
    """
    if weights.distils and teacher is None:
        raise ValueError("the loss weights ask for distillation, but there is no teacher")
    with torch.autocast(label.device.type, enabled=False):
        logits = _wide(student.logits)
        old = _wide(teacher.logits)[:, 1:] if teacher and weights.kd else logits[:, :0].detach()
        targets = _targets(label, logits, covers, covered, void_is_negative, average)
        loss, mbce, kd, ac = _FullResolution.apply(logits, old, targets, weights, pos_weight)
        terms = {"mbce": mbce, "kd": kd, "ac": ac}
        if teacher and weights.dkd_pos:
            term = _SoftTargets.apply(
                _wide(student.positive), _wide(teacher.positive), targets.image_share
            )
            loss, terms["dkd_pos"] = loss + weights.dkd_pos * term, term.detach()
        if teacher and weights.dkd_neg:
            term = _SoftTargets.apply(
                _wide(student.negative), _wide(teacher.negative), targets.image_share
            )
            loss, terms["dkd_neg"] = loss + weights.dkd_neg * term, term.detach()
    return Losses(loss, {name: value for name, value in terms.items() if getattr(weights, name)})


class _Targets(NamedTuple):
    """What the full-resolution terms are compared with, and how much each pixel counts.

    Attributes:
        label: ``N x 1 x H x W`` int64.
        void: ``N x 1 x H x W`` bool, pixels to leave out; None for none.
        image_share: scalar, weight of an image in a mean over images.
        share: scalar, weight of a pixel in a mean over all images' pixels.
        coverage: ``N x (1 + K)``, weight of a pixel of an image in a class's mBCE, 0 where the
            mBCE does not cover it.
        covers: the channels where it may cover some image.
    """

    label: Tensor
    void: Tensor | None
    image_share: Tensor
    share: Tensor
    coverage: Tensor
    covers: range


def _targets(
    label: Tensor,
    logits: Tensor,
    covers: range,
    covered: Tensor | None,
    void_is_negative: bool,
    average: Callable[[Tensor], Tensor] | None,
) -> _Targets:
    label = label[:, None].long()
    # Column 0 stands for the terms that act on every image.
    table = logits.new_zeros(logits.shape[:2])
    table[:, 0] = 1
    if covered is None:
        table[:, covers.start : covers.stop] = 1
    else:
        table[:, 1:] = covered
        covers = range(1, logits.shape[1])
    if void_is_negative:
        void = None
        pixels = table.new_full((len(label),), label.shape[2] * label.shape[3])
    else:
        void = label == VOID
        pixels = (~void).sum((1, 2, 3)).to(table.dtype)
    counts = torch.cat([pixels @ table, table.new_full((1,), len(label))])
    if average is not None:
        counts = average(counts)
    shares = torch.where(counts > 0, 1 / counts, 0)
    coverage = table * shares[:-1]
    coverage[:, 0] = 0
    return _Targets(label, void, shares[-1], shares[0], coverage, covers)


class _FullResolution(torch.autograd.Function):
    """mBCE, KD and AC of logits ``N x (1 + K) x h x w`` at the labels' resolution.

    Args of ``apply``: the student's logits, the teacher's for classes 1..D (D = 0: no KD), the
    targets, the weights and the mBCE's positive weight. Returns the weighted sum of the three
    and then each, without gradient.
    """

    @staticmethod
    def forward(
        ctx: Any,
        logits: Tensor,
        teacher: Tensor,
        targets: _Targets,
        weights: LossWeights,
        pos_weight: float,
    ) -> tuple[Tensor, ...]:
        label, void, _, share, coverage, covers = targets
        old = range(1, 1 + teacher.shape[1])
        # What a pixel's untargeted cross-entropy weighs on a channel, all terms together, and
        # the mBCE's part of it, for only the mBCE has hard targets.
        weight = weights.mbce * coverage
        weight[:, 1 : old.stop] += weights.kd * share
        weight[:, 0] += weights.ac * share
        hard = torch.where(weight > 0, weights.mbce * coverage / weight, 0)

        grid = _Grid.between(logits, label)
        sums, gradient = torch.zeros_like(weight), torch.zeros_like(logits)
        mbce = torch.zeros_like(share)
        needed = {*old, *(covers if weights.mbce else ()), *((0,) if weights.ac else ())}
        for images, channels in _blocks(sorted(needed), logits.shape[0], label):
            x = grid.up(logits[images, channels], void, images)
            sums[images, channels] = _softplus(x).sum((2, 3))
            probability = x.sigmoid()
            if channels.start < covers.stop and covers.start < channels.stop:
                at = _Labelled.within(label[images], channels)
                mbce += at.loss(x, coverage[images, channels], pos_weight)
                at.correct(probability, hard[images, channels], pos_weight)
            if ctx.needs_input_grad[0]:
                gradient[images, channels] = grid.down(probability)
        mbce += (coverage * sums).sum()
        gradient *= weight[:, :, None, None]

        kd = share * sums[:, 1 : old.stop].sum()
        for images, channels in _blocks([k - 1 for k in old], logits.shape[0], label):
            target = share * grid.down(grid.up(teacher[images, channels], void, images).sigmoid_())
            ours = slice(channels.start + 1, channels.stop + 1)
            kd -= (logits[images, ours].clamp(-_LARGEST, _LARGEST) * target).sum()
            gradient[images, ours] -= weights.kd * target
        ac = share * sums[:, 0].sum()

        ctx.save_for_backward(gradient)
        ctx.mark_non_differentiable(mbce, kd, ac)
        return weights.mbce * mbce + weights.kd * kd + weights.ac * ac, mbce, kd, ac

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = ctx.saved_tensors
        return gradient * grad, None, None, None, None


class _SoftTargets(torch.autograd.Function):
    """Cross-entropy of logits with sigmoid(targets), both ``N x D x h x w``: mean, then sum.

    The third argument is the weight of an image in the mean.
    """

    @staticmethod
    def forward(ctx: Any, logits: Tensor, targets: Tensor, image_share: Tensor) -> Tensor:
        share = image_share / (logits.shape[2] * logits.shape[3])
        logits = logits.clamp(-_LARGEST, _LARGEST)
        probability = targets.sigmoid()
        ctx.save_for_backward((logits.sigmoid() - probability) * share)
        return (_softplus(logits) - logits * probability).sum() * share

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        (gradient,) = ctx.saved_tensors
        return gradient * grad, None, None


class _Labelled(NamedTuple):
    """The labelled channel of each pixel in a block of channels.

    Attributes:
        channel: ``n x 1 x H x W``, the channel within the block; any one where there is none.
        inside: ``n x 1 x H x W``, whether there is one.
    """

    channel: Tensor
    inside: Tensor

    @classmethod
    def within(cls, label: Tensor, channels: slice) -> "_Labelled":
        channel = label - channels.start
        count = channels.stop - channels.start
        inside = (channel >= 0) & (channel < count) & (label != VOID)
        return cls(channel.clamp_(0, count - 1), inside)

    def weights(self, table: Tensor) -> Tensor:
        """The entry of ``n x c`` weights that belongs to each pixel, 0 where there is none."""
        entries = table.gather(1, self.channel.flatten(1)).view_as(self.channel)
        return torch.where(self.inside, entries, 0)

    def loss(self, logits: Tensor, weight: Tensor, pos_weight: float) -> Tensor:
        """What hard targets change in the sum of softplus(logits)."""
        x = torch.where(self.inside, logits.gather(1, self.channel), 0)
        return (self.weights(weight) * (pos_weight * _softplus(-x) - _softplus(x))).sum()

    def correct(self, probability: Tensor, weight: Tensor, pos_weight: float) -> None:
        """Adds to the gradient sigmoid(logits), in place, what hard targets change in it."""
        p = probability.gather(1, self.channel)
        change = self.weights(weight) * (pos_weight * (p - 1) - p)
        probability.scatter_(1, self.channel, p + change)


class _Grid(NamedTuple):
    """Bilinear interpolation, corners not aligned, between features and labels.

    Attributes:
        rows: ``H x h`` weights.
        columns: ``W x w`` weights.
    """

    rows: Tensor
    columns: Tensor

    @classmethod
    def between(cls, features: Tensor, label: Tensor) -> "_Grid":
        def weights(source: int, target: int) -> Tensor:
            unit = torch.eye(source, dtype=features.dtype, device=features.device)
            return F.interpolate(unit[None], size=target, mode="linear")[0].T.contiguous()

        height, width = label.shape[-2:]
        return cls(weights(features.shape[-2], height), weights(features.shape[-1], width))

    def up(self, logits: Tensor, void: Tensor | None, images: slice) -> Tensor:
        """``n x c x h x w`` to ``n x c x H x W``, minus infinity where void."""
        x = self.rows @ (logits.clamp(-_LARGEST, _LARGEST) @ self.columns.T)
        if void is not None:
            # exp(-inf) = 0: such a pixel is gone from softplus and sigmoid alike.
            x.masked_fill_(void[images], -torch.inf)
        return x

    def down(self, gradient: Tensor) -> Tensor:
        """The transpose of :meth:`up`: ``n x c x H x W`` to ``n x c x h x w``."""
        return self.rows.T @ (gradient @ self.columns)


def _softplus(x: Tensor) -> Tensor:
    """log(1 + exp(x)), to an absolute error of one rounding.

    A tenth of the time of ``torch.nn.functional.softplus`` on CPU, whose log1p is slow.
    """
    return x.clamp(min=0) - x.abs().sigmoid_().log_()


def _blocks(channels: list[int], images: int, label: Tensor) -> Iterator[tuple[slice, slice]]:
    """Cuts images times the given channels (ascending) into blocks of consecutive ones."""
    size = max(1, _BLOCK[label.device.type] // (label.shape[-2] * label.shape[-1]))
    start = 0
    for end in range(1, len(channels) + 1):
        if end < len(channels) and channels[end] == channels[end - 1] + 1 and end - start < size:
            continue
        together = max(1, size // (end - start))
        for image in range(0, images, together):
            yield slice(image, image + together), slice(channels[start], channels[end - 1] + 1)
        start = end


def _wide(x: Tensor) -> Tensor:
    return x if x.dtype == torch.float64 else x.float()
