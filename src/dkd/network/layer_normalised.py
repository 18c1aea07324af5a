"""Backbones with layer normalisation: Swin (arXiv 2103.14030, 2111.09883), ConvNeXt (2201.03545).

torchvision's networks and tensor names, up to their last normalisation, at output stride 32 as
they are, or 16: the last stage, which takes every second feature in each direction, is done on
each of the four grids of every second one, and the results are interleaved. That is what dilation
does for convolutions, and it works for attention in windows alike: every second feature is what
the strided network computes.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, cast

import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional as F


class LayerNormalised(nn.Module, ABC):
    """A network of four stages behind each other in ``features``.

    Attributes:
        features: torchvision's: what leads to each stage, and the stage.
        watch: called with what each stage gives, ``N x C x h x w``, in every pass.
    """

    watch: Callable[[Tensor], None] | None = None

    def __init__(self, network: Any, stride: int) -> None:
        super().__init__()
        self.features: nn.Sequential = network.features
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        """Images ``N x 3 x H x W`` to ``N x C x ceil(H / stride) x ceil(W / stride)``."""
        kind, rest = x.dtype, self.stride - 1
        # Of whole numbers above 0 alone: ONNX rounds a division of others towards 0.
        height, width = (x.shape[2] + rest) // self.stride, (x.shape[3] + rest) // self.stride
        # Up to whole features: both kinds would leave out a rest at some stage.
        below, beside = height * self.stride - x.shape[2], width * self.stride - x.shape[3]
        x = F.pad(x, (0, beside, 0, below))
        for number in range(3):
            x = self.stage(number, x)
            self._show(x)
        x = self.last(x) if self.stride == 32 else at_every_place(self.last, x)
        self._show(x)
        # Autocast normalises in float32; what follows is to get what images come in.
        return x[:, :, :height, :width].to(kind)

    def _show(self, x: Tensor) -> None:
        if self.watch is not None:
            self.watch(x)

    def stage(self, number: int, x: Tensor) -> Tensor:
        """One of the four stages with what leads to it, both ways ``N x C x h x w``."""
        return cast(Tensor, self.features[2 * number + 1](self.features[2 * number](x)))

    @abstractmethod
    def last(self, x: Tensor) -> Tensor:
        """The fourth stage and the normalisation behind it."""


class Swin(LayerNormalised):
    """torchvision's Swin, first and second version; its own layout is ``N x h x w x C``."""

    def __init__(self, name: str, stride: int = 16) -> None:
        network = torchvision.models.get_model(name)
        super().__init__(network, stride)
        self.norm: nn.LayerNorm = network.norm

    def stage(self, number: int, x: Tensor) -> Tensor:
        x = x.permute(0, 2, 3, 1) if number else x
        return super().stage(number, x).permute(0, 3, 1, 2)

    def last(self, x: Tensor) -> Tensor:
        x = self.stage(3, x).permute(0, 2, 3, 1)
        return cast(Tensor, self.norm(x)).permute(0, 3, 1, 2)


class ConvNeXt(LayerNormalised):
    """torchvision's ConvNeXt, whose last normalisation is its classifier's first part."""

    def __init__(self, name: str, stride: int = 16) -> None:
        network = torchvision.models.get_model(name)
        super().__init__(network, stride)
        self.classifier = network.classifier[:1]

    def last(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.classifier(self.stage(3, x)))


def at_every_place(halving: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """What a stage that takes every second feature gives for each of them.

    Args:
        halving: ``N x C x h x w`` to ``N x D x h/2 x w/2``, for even h and w.
        x: ``N x C x h x w``, of any size; beyond its border are zeros.

    Returns:
        ``N x D x h x w``, of which ``[:, :, ::2, ::2]`` is ``halving(x)`` where that is defined.
    """
    count, _, height, width = x.shape
    # Even as a tracer can see, too.
    rows, columns = 2 * ((height + 1) // 2), 2 * ((width + 1) // 2)
    x = F.pad(x, (0, 1 + columns - width, 0, 1 + rows - height))
    grids = [x[:, :, i : i + rows, j : j + columns] for i in (0, 1) for j in (0, 1)]
    y = halving(torch.cat(grids))
    y = y.view(2, 2, count, *y.shape[1:]).permute(2, 3, 4, 0, 5, 1)
    return y.reshape(count, -1, rows, columns)[:, :, :height, :width]
