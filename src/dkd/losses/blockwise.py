"""The loss of a step: DKD's terms (arXiv 2210.05941), their values and gradients.

Every term is a binary cross-entropy with logits, averaged over images and pixels per class and
summed over classes. Three terms act at full resolution, where logits are what costs: 111
channels of 24 crops of 512 pixels are 2.8 GB. Nothing of that size is kept. With U the bilinear
interpolation, x the logits at feature resolution and t the teacher's,

- the untargeted part of every cross-entropy is softplus(Ux), whose gradient is U'sigmoid(Ux);
- a hard target changes that on the channels that have one alone, the few of the new classes;
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

from dkd.data.channels import void_of
from dkd.losses.terms import Losses, LossWeights
from dkd.network.deeplab import USUAL, Output, Reading

# Values of a block at full resolution: it stays in a CPU's cache, or fills a GPU.
_CPU_BLOCK, _GPU_BLOCK = 1 << 18, 1 << 26

# The largest fp16. A logit beyond it is an overflow of a low-precision network; an infinity
# would become NaN as soon as it is interpolated or weighted by 0.
_LARGEST = 65504.0


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
    fused: bool = False,
) -> Losses:
    """The loss of a batch, with every term that has a weight.

    Computed in float32 or float64, whatever autocast says. Never NaN unless a logit is: a mean
    over nothing is 0, and logits beyond fp16's range count as that range's end.

    Args:
        student: what the student gave; with ``decomposed`` = number of old classes if the
            weights ask for the decomposed terms.
        teacher: what the teacher gave, likewise; None where nothing is distilled.
        label: ``N x H x W`` in channel numbers (:mod:`dkd.data.channels`).
        weights: weights of the terms.
        covers: channels that the mBCE covers, e.g. those of the new classes.
        pos_weight: weight of the mBCE's positive term; or ``1 + K``, each channel's own.
        void_is_negative: void pixels are background in the mBCE and take part in KD and AC;
            otherwise these three are means over the other pixels.
        covered: ``N x K``, whether the mBCE covers class ``k + 1`` in image ``n``, instead of
            ``covers`` in every image; each class's mean is over the images that cover it.
        average: averages a tensor over ranks. With it, every pixel counts alike even if some
            ranks have more images, or less void, than others: the mean of the ranks' losses is
            the loss of their batches together. One small vector is communicated per call.
        reading: how the models' logits are enlarged, both alike.
        fused: takes a GPU's kernel for the full-resolution terms (:mod:`dkd.losses.kernel`), where
            corners are not aligned.

    Raises:
        ValueError: the weights ask for distillation, but there is no teacher.
    """
    if weights.distils and teacher is None:
        raise ValueError("the loss weights ask for distillation, but there is no teacher")
    with torch.autocast(label.device.type, enabled=False):
        logits = _wide(student.logits)
        old = _wide(teacher.logits)[:, 1:] if teacher and weights.kd else logits[:, :0].detach()
        targets = _targets(label, logits, covers, covered, void_is_negative, average)
        grid = _Grid.between(logits, label, reading.align_corners)
        loss, mbce, kd, ac = _FullResolution.apply(
            logits, old, targets, grid, weights, pos_weight, fused and not reading.align_corners
        )
        terms = {"mbce": mbce, "kd": kd, "ac": ac}
        for name, part in (("dkd_pos", "positive"), ("dkd_neg", "negative")):
            if teacher and (weight := getattr(weights, name)):
                ours, theirs = (_wide(getattr(each, part)) for each in (student, teacher))
                term = _SoftTargets.apply(ours, theirs, targets.image_share)
                loss, terms[name] = loss + weight * term, term.detach()
    return Losses(loss, {name: value for name, value in terms.items() if getattr(weights, name)})


class _Targets(NamedTuple):
    """What the full-resolution terms are compared with, and how much each pixel counts.

    Attributes:
        label: ``N x H x W``, channel numbers.
        void_counts: whether void pixels count, as of no class.
        image_share: scalar, weight of an image in a mean over images.
        share: scalar, weight of a pixel in a mean over all images' pixels.
        coverage: ``N x (1 + K)``, weight of a pixel of an image in a class's mBCE, 0 where the
            mBCE does not cover it.
        covers: the channels where it may cover some image.
    """

    label: Tensor
    void_counts: bool
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
    # Column 0 stands for the terms that act on every image.
    table = logits.new_zeros(logits.shape[:2])
    table[:, 0] = 1
    if covered is None:
        table[:, covers.start : covers.stop] = 1
    else:
        table[:, 1:] = covered
        covers = range(1, logits.shape[1])
    if void_is_negative:
        pixels = table.new_full((len(label),), label.shape[1] * label.shape[2])
    else:
        pixels = (label != void_of(label)).sum((1, 2)).to(table.dtype)
    counts = torch.cat([pixels @ table, table.new_full((1,), len(label))])
    if average is not None:
        counts = average(counts)
    shares = torch.where(counts > 0, 1 / counts, 0)
    coverage = table * shares[:-1]
    coverage[:, 0] = 0
    return _Targets(label, void_is_negative, shares[-1], shares[0], coverage, covers)


class _FullResolution(torch.autograd.Function):
    """mBCE, KD and AC of logits ``N x (1 + K) x h x w`` at the labels' resolution.

    Args of ``apply``: the student's logits, the teacher's for classes 1..D (D = 0: no KD), the
    targets, the interpolation, the weights, the mBCE's positive weight, and whether to use a GPU's
    kernel. Returns the weighted sum of the three and then each, without gradient.
    """

    @staticmethod
    def forward(
        ctx: Any,
        logits: Tensor,
        teacher: Tensor,
        targets: _Targets,
        grid: "_Grid",
        weights: LossWeights,
        pos_weight: float | Tensor,
        fused: bool,
    ) -> tuple[Tensor, ...]:
        share, coverage, covers = targets.share, targets.coverage, targets.covers
        old = range(1, 1 + teacher.shape[1])
        # What the derivative of a pixel's untargeted cross-entropy weighs on a channel, all terms
        # together; the mBCE alone has hard targets.
        weight = weights.mbce * coverage
        weight[:, 1 : old.stop] += weights.kd * share
        weight[:, 0] += weights.ac * share
        needed = {*old, *(covers if weights.mbce else ()), *((0,) if weights.ac else ())}

        logits, teacher = (x.clamp(-_LARGEST, _LARGEST).contiguous() for x in (logits, teacher))
        way = _in_one_pass if fused else _by_blocks
        of_pixels = _PixelWeights(weight, weights.mbce * coverage, weights.kd, share, pos_weight)
        sums, gradient = way(logits, teacher, targets, grid, of_pixels, sorted(needed))
        softplus, change, soft = sums.unbind(-1)

        mbce = (coverage * (softplus + change)).sum()
        kd = share * (softplus - soft)[:, 1 : old.stop].sum()
        ac = share * softplus[:, 0].sum()
        ctx.save_for_backward(gradient)
        ctx.mark_non_differentiable(mbce, kd, ac)
        return weights.mbce * mbce + weights.kd * kd + weights.ac * ac, mbce, kd, ac

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = ctx.saved_tensors
        return gradient * grad, None, None, None, None, None, None


class _PixelWeights(NamedTuple):
    """What a pixel's parts of the gradient weigh.

    Attributes:
        sigmoid: ``N x (1 + K)``, of the sigmoid of its logit.
        hard: ``N x (1 + K)``, of what the target 1 changes.
        soft: of a mean over pixels of the sigmoid of the teacher's logit, which is subtracted.
        share: scalar, of a pixel in that mean.
        positive: of the target 1 within ``hard``; or ``1 + K``.
    """

    sigmoid: Tensor
    hard: Tensor
    soft: float
    share: Tensor
    positive: float | Tensor


def _by_blocks(
    logits: Tensor,
    teacher: Tensor,
    targets: _Targets,
    grid: "_Grid",
    weights: _PixelWeights,
    needed: list[int],
) -> tuple[Tensor, Tensor]:
    """Sums over pixels and the gradient, block by block, on any device.

    Returns:
        ``N x (1 + K) x 3``: sums of softplus(Ux), of what the target 1 changes of that, and of
        Ux sigmoid(Ut); and the gradient, ``N x (1 + K) x h x w``.
    """
    covers = targets.covers
    void = targets.label[:, None] == void_of(targets.label)
    # Comparing floats is what CPUs are fast at; void is -1, no channel.
    label = targets.label[:, None].to(logits.dtype).masked_fill_(void, -1)
    # So little is added to a void pixel's logits that it is gone from softplus and sigmoid alike.
    veil = None if targets.void_counts else void.to(logits.dtype) * (-2 * _LARGEST)
    hard = torch.where(weights.sigmoid > 0, weights.hard / weights.sigmoid, 0)

    gradient = torch.zeros_like(logits)
    sums = logits.new_zeros(*logits.shape[:2], 3)
    for images, channels in _blocks(needed, logits.shape[0], label):
        x = grid.up(logits[images, channels], veil, images)
        probability = x.sigmoid()
        if channels.start < covers.stop and covers.start < channels.stop:
            # Made where it is needed: a copy from the host would wait for the device.
            numbers = torch.arange(
                channels.start, channels.stop, dtype=label.dtype, device=label.device
            )
            here = torch.eq(label[images], numbers.view(-1, 1, 1), out=torch.empty_like(x))
            positive = weights.positive
            if isinstance(positive, Tensor):
                positive = positive[channels, None, None].to(x)
            sums[images, channels, 1], change = _hard_targets(x, probability, here, positive)
            probability += change * hard[images, channels, None, None]
        sums[images, channels, 0] = _softplus_sums(x)
        gradient[images, channels] = grid.down(probability)
    gradient *= weights.sigmoid[:, :, None, None]

    for images, channels in _blocks(list(range(teacher.shape[1])), logits.shape[0], label):
        target = grid.down(grid.up(teacher[images, channels], veil, images).sigmoid_())
        ours = slice(channels.start + 1, channels.stop + 1)
        sums[images, ours, 2] = (logits[images, ours] * target).sum((2, 3))
        gradient[images, ours] -= weights.soft * (weights.share * target)
    return sums, gradient


def _in_one_pass(
    logits: Tensor,
    teacher: Tensor,
    targets: _Targets,
    grid: "_Grid",
    weights: _PixelWeights,
    needed: list[int],
) -> tuple[Tensor, Tensor]:
    """As :func:`_by_blocks`, by a kernel of a GPU if it takes these shapes and types."""
    from dkd.losses import kernel

    if not kernel.fits(logits, targets.label):
        return _by_blocks(logits, teacher, targets, grid, weights, needed)
    return kernel.terms(
        logits,
        teacher,
        targets.label,
        grid,
        weights.sigmoid,
        weights.hard,
        weights.soft * weights.share,
        covers=targets.covers,
        needed=needed,
        pos_weight=weights.positive,
        void_counts=targets.void_counts,
    )


def _hard_targets(
    x: Tensor, probability: Tensor, here: Tensor, pos_weight: float | Tensor
) -> tuple[Tensor, Tensor]:
    """What the target 1 (with weight p, or ``c x 1 x 1``) instead of 0 changes where ``here`` is 1.

    Returns:
        The change of the summed cross-entropy, ``n x c``: from softplus(x) to p softplus(-x);
        and that of its gradient, ``n x c x H x W``: from sigmoid(x) to p (sigmoid(x) - 1).
    """
    of_channel = pos_weight.flatten() if isinstance(pos_weight, Tensor) else pos_weight
    change = -of_channel * torch.einsum("nchw,nchw->nc", x, here)
    if not isinstance(pos_weight, Tensor) and pos_weight == 1:
        return change, -here
    softplus = x.clamp(min=0) - x.abs().sigmoid_().log_()
    change += (of_channel - 1) * torch.einsum("nchw,nchw->nc", softplus, here)
    return change, here * (probability * (pos_weight - 1) - pos_weight)


def _softplus_sums(x: Tensor) -> Tensor:
    """Sums of softplus(x) over pixels, ``n x c x H x W`` to ``n x c``.

    Written as max(x, 0) - log(sigmoid(|x|)). The sigmoids lie between 1/2 and 1, so the
    logarithm can be taken of products of 16: cheaper than ``torch.nn.functional.softplus`` by
    far, and rounded less often. On a GPU, where arithmetic is free and memory is not, that
    function passes over it less often.
    """
    if x.is_cuda:
        return F.softplus(x).sum((2, 3))
    height = x.shape[2] // 16
    sigmoids = x.abs().sigmoid_()
    products = sigmoids[:, :, : 16 * height].view(*x.shape[:2], 16, height, x.shape[3]).prod(2)
    rest = sigmoids[:, :, 16 * height :]
    return x.clamp(min=0).sum((2, 3)) - products.log_().sum((2, 3)) - rest.log_().sum((2, 3))


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
        cross_entropy = _softplus_sums(logits).sum() - (logits * probability).sum()
        return cross_entropy * share

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        (gradient,) = ctx.saved_tensors
        return gradient * grad, None, None


class _Grid(NamedTuple):
    """Bilinear interpolation between features and labels.

    Attributes:
        rows: ``H x h`` weights.
        columns: ``W x w`` weights.
    """

    rows: Tensor
    columns: Tensor

    @classmethod
    def between(cls, features: Tensor, label: Tensor, align_corners: bool) -> "_Grid":
        def weights(source: int, target: int) -> Tensor:
            unit = torch.eye(source, dtype=features.dtype, device=features.device)
            lines = F.interpolate(
                unit[None], size=target, mode="linear", align_corners=align_corners
            )
            return lines[0].T.contiguous()

        (h, w), (height, width) = features.shape[-2:], label.shape[-2:]
        return cls(weights(h, height), weights(w, width))

    def up(self, logits: Tensor, veil: Tensor | None, images: slice) -> Tensor:
        """``n x c x h x w`` to ``n x c x H x W``, plus the images' veil."""
        x = self.rows @ (logits @ self.columns.T)
        return x if veil is None else x.add_(veil[images])

    def down(self, gradient: Tensor) -> Tensor:
        """The transpose of :meth:`up`: ``n x c x H x W`` to ``n x c x h x w``."""
        return self.rows.T @ (gradient @ self.columns)


def _blocks(channels: list[int], images: int, label: Tensor) -> Iterator[tuple[slice, slice]]:
    """Cuts images times the given channels (ascending) into blocks of consecutive ones."""
    block = _CPU_BLOCK if label.device.type == "cpu" else _GPU_BLOCK
    size = max(1, block // (label.shape[-2] * label.shape[-1]))
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
