"""Frozen batch normalisation done by the convolution before it, with what follows it.

A batch normalisation in eval mode is an affine map per channel: ``scale * x + shift``. Applied to
the convolution's weights instead of its output, it costs next to nothing, and the output before
normalisation need not be kept for the backward pass: in a ResNet that is half the activations. On
a GPU the same kernel adds the shift and a residual and takes the ReLU, where PyTorch's own
functions would read and write the output once for each. Results differ only in rounding. Names
of parameters and buffers stay as they are.
"""

from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F
from torchvision.models.resnet import BasicBlock, Bottleneck

from dkd.network.backbones import Stem
from dkd.network.deeplab import SegmentationModel
from dkd.network.normalisation import BatchNorm2d


class FoldedConv2d(nn.Conv2d):
    """A convolution that applies the frozen normalisation behind it.

    It learns its own weights, which are multiplied whenever they are used; or, once
    :meth:`settle` was called, it has multiplied them for good.

    Args:
        convolution: what it takes the place of; its parameters are shared, not copied.
        norm: the normalisation behind, marked as done elsewhere.
        relu: takes the ReLU too, when it is called as a module.
    """

    scale: Tensor | None
    shift: Tensor

    def __init__(self, convolution: nn.Conv2d, norm: BatchNorm2d, relu: bool) -> None:
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
        self.relu = relu
        self.unshuffled = isinstance(convolution, Stem) and convolution.unshuffled
        # Norms that add their shift here: in a tuple they are no children, as they have a place
        # of their own in the model. Without any, another convolution adds this one's.
        self.shifted_by: tuple[BatchNorm2d, ...] = (norm,)
        self._norm = (norm,)
        norm.folded = True
        shift = torch.zeros_like(cast(Tensor, norm.running_mean))
        self.register_buffer("scale", shift[:, None, None, None].clone(), persistent=False)
        self.register_buffer("shift", shift, persistent=False)

    def refresh(self) -> None:
        """Takes over the normalisation's present statistics and parameters, in place."""
        with torch.no_grad():
            scale, _ = _affine(self._norm[0])
            cast(Tensor, self.scale).copy_(scale[:, None, None, None])
            self.shift.zero_()
            for norm in self.shifted_by:
                self.shift.add_(_affine(norm)[1])
            if self.bias is not None:
                self.shift.add_(self.bias * scale)

    def settle(self) -> None:
        """Multiplies the weights for good; they are no checkpoint's any more."""
        weight = self.weight.detach() * cast(Tensor, self.scale)
        self.weight = nn.Parameter(weight, requires_grad=False)
        self.scale = None

    def forward(self, x: Tensor) -> Tensor:
        """Convolves and normalises ``N x C x h x w``."""
        return self.convolve(x, relu=self.relu)

    def convolve(self, x: Tensor, residual: Tensor | None = None, relu: bool = False) -> Tensor:
        """Convolves, normalises, adds the residual if there is one, and takes the ReLU if told.

        Computed in the type of x: images come in that of autocast, and the rest follows.
        """
        weight = self.weight
        geometry = _Geometry(self.stride, cast(Any, self.padding), self.dilation, self.groups)
        if self.unshuffled:
            x, weight = Stem.unshuffle(x), Stem.unshuffle_weight(weight)
            geometry = _Geometry((1, 1), (0, 0), (1, 1), 1)
        shift = self.shift if self.shifted_by or self.bias is not None else None
        return cast(Tensor, _Folded.apply(x, weight, self.scale, shift, residual, geometry, relu))


class _Geometry(NamedTuple):
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int


class _Folded(torch.autograd.Function):
    """``relu(convolve(x, scale * weight) + shift + residual)``; scale and shift learn nothing.

    A scale of None is 1; without a shift, a residual, or ``relu``, these are left out.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        scale: Tensor | None,
        shift: Tensor | None,
        residual: Tensor | None,
        geometry: _Geometry,
        relu: bool,
    ) -> Tensor:
        if scale is not None:
            # Multiplied and rounded to the type of x at once.
            weight = torch.mul(weight, scale, out=torch.empty_like(weight, dtype=x.dtype))
        shift = None if shift is None else shift.to(x.dtype)
        if relu and shift is not None and _one_kernel(x, weight):
            if residual is None:
                y = torch.cudnn_convolution_relu(x, weight, shift, *geometry)
            else:
                y = torch.cudnn_convolution_add_relu(x, weight, residual, 1.0, shift, *geometry)
        else:
            y = F.conv2d(x, weight, shift, *geometry)
            if residual is not None:
                y += residual
            if relu:
                y.relu_()
        ctx.save_for_backward(x, weight, scale, y if relu else None)
        ctx.geometry, ctx.residual = geometry, residual is not None
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, scale, y = ctx.saved_tensors
        if y is not None:
            dy = torch.ops.aten.threshold_backward(dy, y, 0)
        needed = [*ctx.needs_input_grad[:2], False]
        stride, padding, dilation, groups = ctx.geometry
        dx, d_weight, _ = torch.ops.aten.convolution_backward(
            dy, x, weight, None, stride, padding, dilation, False, [0, 0], groups, needed
        )
        if d_weight is not None and scale is not None:
            # In the scale's type and the weight's layout, which DistributedDataParallel expects.
            d_weight = torch.mul(d_weight, scale, out=torch.empty_like(weight, dtype=scale.dtype))
        return dx, d_weight, None, None, dy if ctx.residual else None, None, None


def _one_kernel(x: Tensor, weight: Tensor) -> bool:
    """Whether cuDNN has a kernel that adds and takes the ReLU too: as tensor cores like it."""
    return (
        x.is_cuda
        and x.dtype in (torch.bfloat16, torch.float16)
        and x.is_contiguous(memory_format=torch.channels_last)
        and weight.shape[2] in (1, 3)
        and not (weight.shape[0] % 8 or weight.shape[1] % 8)
    )


def fold_student(model: SegmentationModel, but: Iterable[nn.Module] = ()) -> None:
    """Folds the batch normalisation of a model whose convolutions still learn, in place.

    Args:
        model: frozen by :func:`dkd.network.deeplab.freeze_for_later_step`. Its parameters stay
            the same objects, and its state has the same keys.
        but: normalisations that are left.
    """
    _fold(model, but)
    model.register_load_state_dict_post_hook(_refresh_all)  # type: ignore[no-untyped-call]


def fold_teacher(model: SegmentationModel, but: Iterable[nn.Module] = ()) -> None:
    """Folds the batch normalisation of a model that learns nothing, in place and for good.

    Args:
        model: in eval mode. Its convolutions get other weights: it is no longer a checkpoint's.
        but: normalisations that are left.
    """
    _fold(model, but)
    for module in model.modules():
        if isinstance(module, FoldedConv2d):
            module.settle()


def _fold(model: nn.Module, but: Iterable[nn.Module]) -> None:
    left = set(but)
    for parent, convolution, norm, behind in list(_triples(model)):
        if norm[1] in left:
            continue
        # Children of a sequence are called one after the other; others as their parent likes.
        relu = isinstance(parent, nn.Sequential) and isinstance(behind[1], nn.ReLU)
        folded = FoldedConv2d(cast(nn.Conv2d, convolution[1]), cast(BatchNorm2d, norm[1]), relu)
        setattr(parent, convolution[0], folded)
        if relu:
            setattr(parent, behind[0], nn.Identity())
    for block in model.modules():
        if isinstance(block, (BasicBlock, Bottleneck)) and block.downsample is not None:
            # The sum adds the shift of its residual too: without a ReLU no kernel does.
            shortcut, last = block.downsample[0], getattr(block, "conv3", block.conv2)
            last.shifted_by, shortcut.shifted_by = (*last.shifted_by, *shortcut.shifted_by), ()
    for module in model.modules():
        if isinstance(module, FoldedConv2d):
            module.refresh()


def _affine(norm: BatchNorm2d) -> tuple[Tensor, Tensor]:
    """What a frozen normalisation multiplies by and adds, each of ``channels`` values."""
    mean, variance = cast(Tensor, norm.running_mean), cast(Tensor, norm.running_var)
    with torch.no_grad():
        scale = norm.weight * torch.rsqrt(variance + norm.eps)
        return scale, norm.bias - mean * scale


_Child = tuple[str, nn.Module | None]


def _triples(model: nn.Module) -> Iterator[tuple[nn.Module, _Child, _Child, _Child]]:
    """Every convolution, the normalisation after it among its parent's children, and the next."""
    for parent in model.modules():
        children: list[_Child] = [*parent.named_children(), ("", None)]
        for (convolution, norm), (_, behind) in zip(
            pairwise(children), pairwise(children[1:]), strict=False
        ):
            if isinstance(convolution[1], nn.Conv2d) and isinstance(norm[1], BatchNorm2d):
                assert not norm[1].folded, "folded twice"
                yield parent, convolution, norm, behind


def _refresh_all(model: nn.Module, _keys: object) -> None:
    for module in model.modules():
        if isinstance(module, FoldedConv2d):
            module.refresh()
