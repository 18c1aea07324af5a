"""The graph of an exported model: pixels in, a mask or logits out."""

from typing import Protocol, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dkd.data.transforms import SCALE, SHIFT
from dkd.network.deeplab import SegmentationModel
from dkd.network.prediction import in_turns, read

_AT_A_TIME = 8
"""Classes whose logits are enlarged together: 32 bytes a pixel of the image."""

_MOST_BITS = 22


class Resize(Protocol):
    """Antialiased bilinear resizing: uint8 ``N x 3 x H x W`` to ``N x 3 x h x w``."""

    def __call__(self, images: Tensor, height: int, width: int) -> Tensor: ...


class Graph(nn.Module):
    """A model with what comes before it and after it.

    Args:
        model: in eval mode; it is changed if ``half``.
        short_side: pixels to which an image's short side is resized.
        mask: whether images of any size become masks of theirs; else images resized beforehand
            become logits.
        half: the network computes in float16, its heads in float32.
        resize: how images are resized.
    """

    scale: Tensor
    shift: Tensor

    def __init__(
        self, model: SegmentationModel, short_side: int, *, mask: bool, half: bool, resize: Resize
    ) -> None:
        super().__init__()
        self.model = model.requires_grad_(False)
        if half:
            self.model.backbone.half()
            self.model.aspp.half()
        self.short_side, self.mask, self.half_precision = short_side, mask, half
        self.resize = resize
        self.register_buffer("scale", SCALE.clone(), persistent=False)
        self.register_buffer("shift", SHIFT.clone(), persistent=False)

    def forward(self, image: Tensor) -> Tensor:
        """uint8 ``N x H x W x 3`` to channels ``N x H x W``, or to float32 ``N x K x h x w``."""
        height, width = image.shape[1], image.shape[2]
        pixels = image.permute(0, 3, 1, 2)
        if self.mask:
            # As dkd.data.transforms.evaluation_sample has it, without asking which is longer.
            short = cast(int, torch.sym_min(height, width))
            size = self.short_side
            pixels = self.resize(pixels, size * height // short, size * width // short)
        inputs = pixels.float() * self.scale + self.shift
        features = self.model.features(inputs.half() if self.half_precision else inputs)
        logits = self.model.logits(features)
        if not self.mask:
            return logits[:, 1:]
        return read(in_turns(logits, (height, width), _AT_A_TIME, self.model.reading))


def natively(images: Tensor, height: int, width: int) -> Tensor:
    """Resizes by PyTorch's own function."""
    return F.interpolate(
        images, (height, width), mode="bilinear", align_corners=False, antialias=True
    )


def by_matrices(images: Tensor, height: int, width: int) -> Tensor:
    """Resizes to the same pixels by two products of matrices, columns first.

    ONNX's Resize is defined with an antialias, but programs differ at an image's edge (ONNX
    Runtime by up to 13 of 255 levels) and in rounding. A mask must not depend on who runs the
    graph. PyTorch's fixed-point arithmetic on 8-bit pixels is repeated in whole numbers that
    float32 holds; only where an image shrinks to less than a quarter may one round.
    """
    across, bits = _weights(images.shape[3], width)
    images = _rounded(images.float() @ across.T, bits)
    down, bits = _weights(images.shape[2], height)
    return _rounded(down @ images, bits).to(torch.uint8)


def _weights(old: int, new: int) -> tuple[Tensor, Tensor]:
    """Weights ``new x old`` of the triangle filter, times two to the power of so many bits."""
    ratio = torch.full((1,), old, dtype=torch.float64) / new
    wide = ratio.clamp(min=1)
    centres = (torch.arange(new, dtype=torch.float64) + 0.5)[:, None] * ratio
    places = torch.arange(old, dtype=torch.float64)[None]
    weights = (1 - ((places - centres + 0.5) / wide).abs()).clamp(min=0)
    weights = weights / weights.sum(dim=1, keepdim=True)
    # As many as the largest weight can have in 16 bits with a sign.
    doubled = weights.max() * 2.0 ** torch.arange(1, _MOST_BITS + 1, dtype=torch.float64)
    bits = (doubled < 2**15 - 0.5).sum()
    return (weights * 2.0 ** bits.double() + 0.5).floor().float(), bits


def _rounded(sums: Tensor, bits: Tensor) -> Tensor:
    scale = (2.0 ** bits.double()).float()
    return ((sums + scale / 2) / scale).floor().clamp(0, 255)
