"""Frozen batch normalisation, ReLU and the max pooling of a ResNet's stem in one pass.

The stem's activations are the largest of the network. They are read once and, pooled, written
as a quarter; the backward pass keeps which of its nine pixels each result is from, in a byte.
"""

from typing import Any, cast

import torch
import triton
import triton.language as tl
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from dkd.network import triton_support

triton_support.keep()
_BLOCK = 4096  # values that a program has in hand


@triton.jit
def _scale(variance, weight, channel, known, eps):
    """What the normalisation multiplies its channels by."""
    return tl.load(weight + channel, mask=known, other=0.0) * tl.rsqrt(
        tl.load(variance + channel, mask=known, other=1.0) + eps
    )


@triton.jit
def _forward(
    x, mean, variance, weight, bias, y, of, pixels, channels, height, width, eps,
    PIXELS: tl.constexpr, CHANNELS: tl.constexpr,
):  # fmt: skip
    pixel = tl.program_id(0).to(tl.int64) * PIXELS + tl.arange(0, PIXELS)
    channel = tl.arange(0, CHANNELS)
    known = channel < channels
    times = _scale(variance, weight, channel, known, eps)
    plus = tl.load(bias + channel, mask=known) - tl.load(mean + channel, mask=known) * times
    rows, columns = (height + 1) // 2, (width + 1) // 2
    column = pixel % columns
    row = (pixel // columns) % rows
    image = pixel // (columns * rows)
    best = tl.full((PIXELS, CHANNELS), -1.0, tl.float32)
    which = tl.zeros((PIXELS, CHANNELS), tl.uint8)
    for tap in tl.static_range(9):
        i = 2 * row - 1 + tap // 3
        j = 2 * column - 1 + tap % 3
        inside = (pixel < pixels) & (i >= 0) & (i < height) & (j >= 0) & (j < width)
        at = ((image * height + i) * width + j)[:, None] * channels + channel[None, :]
        there = inside[:, None] & known[None, :]
        value = tl.load(x + at, mask=there, other=0.0).to(tl.float32)
        value = value * times[None, :] + plus[None, :]
        value = tl.where(value < 0, 0.0, value)
        better = there & ((value > best) | (value != value))  # NaN wins, as in PyTorch
        best = tl.where(better, value, best)
        which = tl.where(better, tap, which).to(tl.uint8)
    at = pixel[:, None] * channels + channel[None, :]
    there = (pixel < pixels)[:, None] & known[None, :]
    tl.store(y + at, best, mask=there)
    tl.store(of + at, which, mask=there)


@triton.jit
def _backward(
    dy, y, of, variance, weight, dx, pixels, channels, height, width, eps,
    PIXELS: tl.constexpr, CHANNELS: tl.constexpr,
):  # fmt: skip
    pixel = tl.program_id(0).to(tl.int64) * PIXELS + tl.arange(0, PIXELS)
    channel = tl.arange(0, CHANNELS)
    known = channel < channels
    times = _scale(variance, weight, channel, known, eps)
    rows, columns = (height + 1) // 2, (width + 1) // 2
    j = pixel % width
    i = (pixel // width) % height
    image = pixel // (width * height)
    total = tl.zeros((PIXELS, CHANNELS), tl.float32)
    # An even row lies in the middle of one window; an odd one ends one and begins the next.
    for window in tl.static_range(4):
        down, right = window // 2, window % 2
        row, column = (i + down) // 2, (j + right) // 2
        once = ((down == 0) | (i % 2 == 1)) & ((right == 0) | (j % 2 == 1))
        inside = (pixel < pixels) & once & (row < rows) & (column < columns)
        tap = (i - 2 * row + 1) * 3 + j - 2 * column + 1
        at = ((image * rows + row) * columns + column)[:, None] * channels + channel[None, :]
        there = inside[:, None] & known[None, :]
        mine = tl.load(of + at, mask=there, other=255) == tap[:, None]
        mine = mine & (tl.load(y + at, mask=there, other=0.0) > 0)
        total += tl.where(mine, tl.load(dy + at, mask=there, other=0.0).to(tl.float32), 0.0)
    at = pixel[:, None] * channels + channel[None, :]
    tl.store(dx + at, total * times[None, :], mask=(pixel < pixels)[:, None] & known[None, :])


class _Pooled(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, norm: nn.BatchNorm2d) -> Tensor:
        images, channels, height, width = x.shape
        shape = (images, channels, (height + 1) // 2, (width + 1) // 2)
        y = _empty(x, shape)
        of = torch.empty_like(y, dtype=torch.uint8)
        pixels = images * shape[2] * shape[3]
        block = _shape(channels)
        _forward[(triton.cdiv(pixels, block["PIXELS"]),)](
            x, norm.running_mean, norm.running_var, norm.weight, norm.bias, y, of,
            pixels, channels, height, width, norm.eps, **block,
        )  # fmt: skip
        ctx.save_for_backward(y, of, norm.running_var, norm.weight)
        ctx.eps, ctx.size = norm.eps, (height, width)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor, None]:
        y, of, variance, weight = ctx.saved_tensors
        dy = dy.contiguous(memory_format=torch.channels_last)
        (images, channels), (height, width) = dy.shape[:2], ctx.size
        dx = _empty(dy, (images, channels, height, width))
        pixels, block = images * height * width, _shape(channels)
        _backward[(triton.cdiv(pixels, block["PIXELS"]),)](
            dy, y, of, variance, weight, dx, pixels, channels, height, width, ctx.eps, **block
        )
        return dx, None


def pooled(norm: nn.BatchNorm2d, x: Tensor) -> Tensor:
    """The largest of every 3x3 pixels of ``relu(norm(x))``, at every second one.

    Args:
        norm: frozen: in eval mode, its parameters (float32) learn nothing.
        x: ``N x C x h x w``, any floating-point type, C at most 4096; computed in float32.

    Returns:
        ``N x C x ceil(h / 2) x ceil(w / 2)``, in the type of x, channels last.
    """
    return cast(Tensor, _Pooled.apply(x.contiguous(memory_format=torch.channels_last), norm))


def _empty(like: Tensor, shape: tuple[int, ...]) -> Tensor:
    return torch.empty(
        shape, dtype=like.dtype, device=like.device, memory_format=torch.channels_last
    )


def _shape(channels: int) -> dict[str, int]:
    side = triton.next_power_of_2(channels)
    return {"PIXELS": max(1, _BLOCK // side), "CHANNELS": side, "enable_fp_fusion": True}
