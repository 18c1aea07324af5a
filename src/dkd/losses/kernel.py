"""The full-resolution terms of the loss in one pass that keeps nothing at full resolution.

A program takes the pixel rows that lie nearest to one row of features. Each of their pixels is
interpolated between that row of features and its two neighbours, and likewise for columns, so
that the transposed interpolation of what the pixels want is nine sums for each feature. Logits,
targets, sigmoids and logarithms live in registers; only features and labels are read, and only
the nine sums and three values for each row of features are written.
"""

from collections.abc import Iterator
from itertools import groupby

import torch
import triton
import triton.language as tl
from torch import Tensor

from dkd.data.channels import void_of
from dkd.network import triton_support

triton_support.keep()

# Columns of pixels that a program has in hand at a time: two for each of its threads.
_COLUMNS, _WARPS = 256, 4
# The product of 1 + exp(-|x|) over a program's rows must not overflow.
_LARGEST_FACTOR = 64


@triton.jit
def _interpolated(features, row, q, near, left, here, right, h, w):
    """One row of features at the columns of pixels: its three neighbours, weighted.

    Beyond an edge weights are 0, and any feature will do.
    """
    at = features + tl.minimum(tl.maximum(row, 0), h - 1) * w
    x = left * tl.load(at + tl.maximum(q - 1, 0), mask=near, other=0.0)
    x += here * tl.load(at + q, mask=near, other=0.0)
    return x + right * tl.load(at + tl.minimum(q + 1, w - 1), mask=near, other=0.0)


@triton.jit
def _store(
    sums, s, left, here, right, inside, plane, CELLS: tl.constexpr, COLUMNS: tl.constexpr
):  # fmt: skip
    """What columns of pixels want of the features on their left, at them, and on their right."""
    size: tl.constexpr = COLUMNS // CELLS
    tl.store(sums, tl.sum(tl.reshape(s * left, (CELLS, size)), 1), mask=inside)
    tl.store(sums + plane, tl.sum(tl.reshape(s * here, (CELLS, size)), 1), mask=inside)
    tl.store(sums + 2 * plane, tl.sum(tl.reshape(s * right, (CELLS, size)), 1), mask=inside)


# One kernel: what it shares lives in registers, and Triton inlines functions without saving any.
@triton.jit
def _terms(
    logits, teacher, label, rows, columns, weight, hard, kd, positives, sums, values,
    first, channels, taught, H, W, h, w, void,
    KD: tl.constexpr, HARD: tl.constexpr, VOID_COUNTS: tl.constexpr,
    CELLS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    size: tl.constexpr = COLUMNS // CELLS
    blocks = tl.cdiv(w, CELLS)
    p = tl.program_id(0) // blocks
    block = tl.program_id(0) % blocks
    channel = first + tl.program_id(1)
    image = tl.program_id(2).to(tl.int64)
    plane = image * channels + channel

    lane = tl.arange(0, COLUMNS)
    q = block * CELLS + lane // size
    column = (2 * W * q + w - 1) // (2 * w) + lane % size
    near = (q < w) & (column < (2 * W * (q + 1) + w - 1) // (2 * w))
    at = columns + column * w + q
    left = tl.load(at - 1, mask=near & (q > 0), other=0.0)
    here = tl.load(at, mask=near, other=0.0)
    right = tl.load(at + 1, mask=near & (q + 1 < w), other=0.0)

    features = logits + plane * h * w
    above = _interpolated(features, p - 1, q, near, left, here, right, h, w)
    level = _interpolated(features, p, q, near, left, here, right, h, w)
    below = _interpolated(features, p + 1, q, near, left, here, right, h, w)
    if KD:
        features = teacher + (image * taught + channel - 1) * h * w
        old_above = _interpolated(features, p - 1, q, near, left, here, right, h, w)
        old_level = _interpolated(features, p, q, near, left, here, right, h, w)
        old_below = _interpolated(features, p + 1, q, near, left, here, right, h, w)
    of_sigmoid = tl.load(weight + plane)
    of_teacher = tl.load(kd)
    of_target = tl.load(hard + plane)
    pos_weight = tl.load(positives + channel)

    softplus = tl.zeros((COLUMNS,), tl.float32)
    product = tl.full((COLUMNS,), 1.0, tl.float32)
    soft = tl.zeros((COLUMNS,), tl.float32)
    change = tl.zeros((COLUMNS,), tl.float32)
    to_above = tl.zeros((COLUMNS,), tl.float32)
    to_level = tl.zeros((COLUMNS,), tl.float32)
    to_below = tl.zeros((COLUMNS,), tl.float32)
    for i in range((2 * H * p + h - 1) // (2 * h), (2 * H * (p + 1) + h - 1) // (2 * h)):
        a = tl.load(rows + i * h + p - 1, mask=p > 0, other=0.0)
        b = tl.load(rows + i * h + p)
        c = tl.load(rows + i * h + p + 1, mask=p + 1 < h, other=0.0)
        x = a * above + b * level + c * below
        e = tl.exp(-tl.abs(x))
        whole = 1 + e
        sigmoid = tl.where(x > 0, 1.0, e) / whole
        wanted = of_sigmoid * sigmoid
        counts = near
        if HARD or not VOID_COUNTS:
            number = tl.load(label + (image * H + i) * W + column, mask=near, other=void)
        if not VOID_COUNTS:
            counts = number != void
        if KD:
            t = a * old_above + b * old_level + c * old_below
            probability = tl.exp(-tl.abs(t))
            probability = tl.where(t > 0, 1.0, probability) / (1 + probability)
            wanted -= of_teacher * probability
            soft += tl.where(counts, x * probability, 0.0)
        softplus += tl.where(counts, tl.maximum(x, 0.0), 0.0)
        product *= tl.where(counts, whole, 1.0)
        if HARD:
            positive = number == channel
            positive = positive & (number != void)
            # softplus(x) becomes pos_weight softplus(-x), whose derivative follows.
            one = tl.maximum(x, 0.0) + tl.log(whole)
            change += tl.where(positive, (pos_weight - 1) * one - pos_weight * x, 0.0)
            wanted += tl.where(positive, of_target * ((pos_weight - 1) * sigmoid - pos_weight), 0.0)
        wanted = tl.where(counts, wanted, 0.0)
        to_above += a * wanted
        to_level += b * wanted
        to_below += c * wanted

    softplus += tl.log(product)
    at_value = values + (plane * h + p) * blocks * 3 + block * 3
    tl.store(at_value, tl.sum(tl.where(near, softplus, 0.0), 0))
    tl.store(at_value + 1, tl.sum(change, 0))
    tl.store(at_value + 2, tl.sum(soft, 0))
    cell = block * CELLS + tl.arange(0, CELLS)
    into = sums + plane * 9 * h * w + p * w + cell
    inside = cell < w
    _store(into, to_above, left, here, right, inside, h * w, CELLS, COLUMNS)
    _store(into + 3 * h * w, to_level, left, here, right, inside, h * w, CELLS, COLUMNS)
    _store(into + 6 * h * w, to_below, left, here, right, inside, h * w, CELLS, COLUMNS)


def fits(logits: Tensor, label: Tensor) -> bool:
    """Whether the kernel takes logits ``N x C x h x w`` and labels ``N x H x W``."""
    rows, columns = (-(-label.shape[k] // logits.shape[k]) for k in (-2, -1))
    return (
        logits.dtype == torch.float32
        and rows <= _LARGEST_FACTOR
        and triton.next_power_of_2(columns) <= _COLUMNS
    )


def terms(
    logits: Tensor,
    teacher: Tensor,
    label: Tensor,
    grid: tuple[Tensor, Tensor],
    weight: Tensor,
    hard: Tensor,
    kd: Tensor,
    *,
    covers: range,
    needed: list[int],
    pos_weight: float | Tensor,
    void_counts: bool,
) -> tuple[Tensor, Tensor]:
    """Sums over pixels and their gradient, on a GPU.

    With x the student's logits and t the teacher's, interpolated to the labels' resolution, a
    pixel wants ``weight sigmoid(x)`` of its logit; ``hard`` times what the target 1 changes where
    its label says so; and ``-kd sigmoid(t)``.

    Args:
        logits: the student's, float32 ``N x C x h x w``, contiguous.
        teacher: the teacher's for channels 1..D, float32 ``N x D x h x w``, contiguous.
        label: ``N x H x W``, channel numbers (:mod:`dkd.data.channels`).
        grid: weights of the interpolation, ``H x h`` and ``W x w``.
        weight: ``N x C``.
        hard: ``N x C``.
        kd: scalar.
        covers: channels that have hard targets.
        needed: channels that anything is computed for, ascending.
        pos_weight: weight of the target 1; or ``C``, each channel's.
        void_counts: whether void pixels count, as of no class.

    Returns:
        ``N x C x 3``: sums of softplus(x), of what the target 1 changes of that, and of
        x sigmoid(t); and the gradient, ``N x C x h x w``.
    """
    (images, channels, h, w), (height, width) = logits.shape, label.shape[1:]
    taught, label = teacher.shape[1], label.contiguous()
    cells = min(triton.next_power_of_2(w), _COLUMNS // triton.next_power_of_2(-(-width // w)))
    blocks = triton.cdiv(w, cells)
    sums = logits.new_zeros(images, channels, 3, 3, h, w)
    values = logits.new_zeros(images, channels, h * blocks, 3)

    positives = pos_weight
    if not isinstance(positives, Tensor):
        positives = logits.new_full((channels,), positives)
    # Without soft targets always with hard ones, if of no weight: a kernel less to compile.
    soft = range(1, 1 + taught)
    for some, is_soft, is_hard in _alike(needed, soft, covers):
        _terms[(h * blocks, len(some), images)](
            logits, teacher, label, *grid, weight, hard, kd, positives, sums, values,
            some.start, channels, taught, height, width, h, w, void_of(label),
            KD=is_soft, HARD=is_hard or not is_soft, VOID_COUNTS=void_counts,
            CELLS=cells, COLUMNS=cells * triton.next_power_of_2(-(-width // w)),
            num_warps=_WARPS, enable_fp_fusion=True,
        )  # fmt: skip
    return values.sum(2), _gathered(sums)


def _alike(channels: list[int], soft: range, hard: range) -> Iterator[tuple[range, bool, bool]]:
    """Cuts channels into consecutive ones of which the same is asked; whether soft and hard."""
    for kind, some in groupby(channels, lambda k: (k in soft, k in hard)):
        for _, run in groupby(enumerate(some), lambda pair: pair[1] - pair[0]):
            numbers = [k for _, k in run]
            yield range(numbers[0], numbers[-1] + 1), *kind


def _gathered(sums: Tensor) -> Tensor:
    """Adds up at every feature what the pixels of its neighbours want of it.

    ``N x C x 3 x 3 x h x w``, of which the first two count where the pixels lie, to
    ``N x C x h x w``.
    """
    gradient = sums[:, :, 1, 1].clone()
    for row in (-1, 0, 1):
        for column in (-1, 0, 1):
            if row or column:
                to, of = _overlap(row), _overlap(-row)
                to_column, of_column = _overlap(column), _overlap(-column)
                gradient[:, :, to, to_column] += sums[:, :, 1 + row, 1 + column, of, of_column]
    return gradient


def _overlap(shift: int) -> slice:
    """The part of an axis that still lies within it when it is moved by -shift."""
    return slice(max(0, shift), shift if shift < 0 else None)
