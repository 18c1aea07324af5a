"""Frozen batch normalisation done by the convolution before it.

A batch normalisation in eval mode is an affine map per channel: ``scale * x + shift``. Applied to
the convolution's weights instead of its output, it costs next to nothing, and the output before
normalisation need not be kept for the backward pass: in a ResNet that is half the activations.
Results differ in rounding alone. Names of parameters and buffers stay as they are.
"""

from collections.abc import Iterator
from itertools import pairwise
from typing import Any, cast

import torch
from torch import Tensor, nn

from dkd.network.deeplab import SegmentationModel
from dkd.network.normalisation import BatchNorm2d


class NormalisingConv2d(nn.Conv2d):
    """A convolution that learns its own weights and applies the frozen normalisation behind it.

    Args:
        convolution: what it takes the place of; its parameters are shared, not copied.
        norm: the normalisation behind, marked as done elsewhere.
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, convolution: nn.Conv2d, norm: BatchNorm2d) -> None:
        arguments: dict[str, Any] = {
            name: getattr(convolution, name)
            for name in ("kernel_size", "stride", "padding", "dilation", "groups", "padding_mode")
        }
        super().__init__(
            convolution.in_channels,
            convolution.out_channels,
            bias=convolution.bias is not None,
            device="meta",
            **arguments,
        )
        self.weight, self.bias = convolution.weight, convolution.bias
        self._norm = (norm,)  # in a tuple it is no child: it has its own place in the model
        self.register_buffer("scale", None, persistent=False)
        self.register_buffer("shift", None, persistent=False)
        self.refresh()

    def refresh(self) -> None:
        """Takes over the normalisation's present statistics and parameters."""
        self.scale, self.shift = _affine(self._norm[0])

    def forward(self, x: Tensor) -> Tensor:
        """Convolves and normalises ``N x C x h x w``."""
        weight = self.weight * self.scale[:, None, None, None]
        shift = self.shift if self.bias is None else self.shift + self.bias * self.scale
        return cast(Tensor, self._conv_forward(x, weight, shift))


def fold_student(model: SegmentationModel) -> None:
    """Folds the batch normalisation of a model whose convolutions still learn, in place.

    Args:
        model: frozen by :func:`dkd.network.deeplab.freeze_for_later_step`. Its parameters stay
            the same objects, and its state has the same keys.
    """
    for parent, name, convolution, norm in list(_pairs(model)):
        norm.folded = True
        setattr(parent, name, NormalisingConv2d(convolution, norm))
    model.register_load_state_dict_post_hook(_refresh_all)  # type: ignore[no-untyped-call]


def fold_teacher(model: SegmentationModel) -> None:
    """Folds the batch normalisation of a model that learns nothing, in place and for good.

    Args:
        model: in eval mode. Its convolutions get other weights: it is no longer a checkpoint's.
    """
    for _, _, convolution, norm in list(_pairs(model)):
        scale, shift = _affine(norm)
        with torch.no_grad():
            convolution.weight.mul_(scale[:, None, None, None])
            bias = shift if convolution.bias is None else shift + convolution.bias * scale
        convolution.bias = nn.Parameter(bias, requires_grad=False)
        norm.folded = True


def _affine(norm: BatchNorm2d) -> tuple[Tensor, Tensor]:
    """What a frozen normalisation multiplies by and adds, each of ``channels`` values."""
    mean, variance = cast(Tensor, norm.running_mean), cast(Tensor, norm.running_var)
    with torch.no_grad():
        scale = norm.weight * torch.rsqrt(variance + norm.eps)
        return scale, norm.bias - mean * scale


def _pairs(model: nn.Module) -> Iterator[tuple[nn.Module, str, nn.Conv2d, BatchNorm2d]]:
    """Every convolution with the normalisation that follows it among its parent's children."""
    for parent in model.modules():
        children = list(parent.named_children())
        for (name, convolution), (_, norm) in pairwise(children):
            if isinstance(convolution, nn.Conv2d) and isinstance(norm, BatchNorm2d):
                yield parent, name, convolution, norm


def _refresh_all(model: nn.Module, _keys: object) -> None:
    for module in model.modules():
        if isinstance(module, NormalisingConv2d):
            module.refresh()
