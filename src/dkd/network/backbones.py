"""Backbones: images to feature maps, with torchvision's key names so that its weights fit.

All but ``demo`` are torchvision's networks without their classifier, brought to output stride
16 by dilating the last stage instead of striding it, or to 8 by dilating the last two
(DeepLabV3, arXiv 1706.05587). Those with layer normalisation are in
:mod:`dkd.network.layer_normalised`; :func:`get` knows those from outside too.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib.metadata import entry_points
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models import mobilenet_v3_large
from torchvision.models.mobilenetv2 import MobileNetV2
from torchvision.models.resnet import BasicBlock, Bottleneck, ResNet

from dkd.errors import UserError
from dkd.network import layer_normalised
from dkd.network.layer_normalised import LayerNormalised
from dkd.network.normalisation import BatchNorm2d
from dkd.scenario import backbones

# A tenth of the usual momentum, as in the published runs.
_norm = partial(BatchNorm2d, momentum=0.01)


@dataclass(frozen=True)
class Backbone:
    """A backbone as the decoder needs to know it.

    Attributes:
        make: builds the network with random weights, of the output stride that ``stride`` says.
            It takes images ``N x 3 x H x W``, normalised RGB, to features
            ``N x channels x ceil(H / stride) x ceil(W / stride)`` of their type. What it cannot
            build it refuses with a ValueError.
        channels: of the feature map.
        classifier: how names of tensors begin that a file of weights may hold besides.
    """

    make: Callable[..., nn.Module]
    channels: int
    classifier: tuple[str, ...] = ("fc.", "classifier.", "head.")

    def build(self, stride: int) -> nn.Module:
        """The network, its batch normalisation of the kind that can be folded and shared.

        Raises:
            UserError: it cannot have this output stride, or normalises in a way that cannot be
                shared across ranks.
        """
        try:
            network = self.make(stride=stride)
        except ValueError as error:
            raise UserError(f"network.output_stride: {stride}: {error}") from None
        return shareable(network)


class Stem(nn.Conv2d):
    """The first convolution of a ResNet, of 7x7 pixels at every second one.

    Three channels are too few for tensor cores. With :attr:`unshuffled` set, each 2x2 pixels are
    taken for one of 12 channels (filled up to 16), of which the same convolution reads 4x4.
    """

    unshuffled = False

    def __init__(self, convolution: nn.Conv2d) -> None:
        super().__init__(3, convolution.out_channels, 7, 2, 3, bias=False, device="meta")
        self.weight = convolution.weight

    @staticmethod
    def unshuffle(images: Tensor, kind: torch.dtype | None = None) -> Tensor:
        """Images as the convolution of 4x4 pixels takes them; those that are so already, as is.

        Args:
            images: ``N x 3 x H x W``.
            kind: type of the result; None is the images'.

        Returns:
            ``N x 16 x (ceil(H / 2) + 3) x (ceil(W / 2) + 3)``, padded, channels last.
        """
        if images.shape[1] != 3:
            return images
        count, _, height, width = images.shape
        if height % 2 or width % 2:
            images = F.pad(images, (0, width % 2, 0, height % 2))
        images = images.contiguous()
        squares = images.view(count, 3, (height + 1) // 2, 2, (width + 1) // 2, 2)
        squares = squares.permute(0, 2, 4, 1, 3, 5)
        # 7 taps from -3 to 3 become 8 from -4 on, in pairs 4 from -2 on.
        shape = (count, squares.shape[1] + 3, squares.shape[2] + 3, 16)
        padded = torch.zeros(shape, dtype=kind or images.dtype, device=images.device)
        padded[:, 2:-1, 2:-1, :12].view(*squares.shape).copy_(squares)
        return padded.permute(0, 3, 1, 2)

    @staticmethod
    def unshuffle_weight(weight: Tensor) -> Tensor:
        """``K x 3 x 7 x 7`` to the ``K x 16 x 4 x 4`` that do the same."""
        weight = F.pad(F.pixel_unshuffle(F.pad(weight, (1, 0, 1, 0)), 2), (0, 0, 0, 0, 0, 4))
        return weight.contiguous(memory_format=torch.channels_last)

    def _conv_forward(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        if self.unshuffled:
            return F.conv2d(self.unshuffle(x), self.unshuffle_weight(weight), bias)
        return cast(Tensor, super()._conv_forward(x, weight, bias))


def convolved(
    convolution: Any, norm: Any, x: Tensor, residual: Tensor | None = None, relu: bool = True
) -> Tensor:
    """``relu(norm(convolution(x)) + residual)``, all ``N x C x h x w``.

    Args:
        convolution: a convolution, or what :mod:`dkd.network.folding` made of it.
        norm: the batch normalisation behind it.
        x: what is convolved.
        residual: what is added, if anything.
        relu: takes the ReLU.
    """
    if isinstance(norm, BatchNorm2d) and norm.folded:
        return cast(Tensor, convolution.convolve(x, residual, relu=relu))
    y: Tensor = norm(convolution(x))
    if residual is not None:
        y += residual
    return F.relu(y, inplace=True) if relu else y


class _Watched:
    """A residual block whose sum can be looked at before its activation.

    Attributes:
        watch: called with the sum at every pass, ``N x C x h x w``.
    """

    watch: Callable[[Tensor], None] | None = None

    def added(self, convolution: Any, norm: Any, x: Tensor, residual: Tensor) -> Tensor:
        """The block's last :func:`convolved`."""
        if self.watch is None:
            return convolved(convolution, norm, x, residual)
        y = convolved(convolution, norm, x, residual, relu=False)
        self.watch(y)
        return F.relu(y)


class _BasicBlock(BasicBlock, _Watched):  # type: ignore[misc]  # torchvision has no types
    """torchvision's, with one call for a convolution and what follows it."""

    def forward(self, x: Tensor) -> Tensor:
        residual = x if self.downsample is None else self.downsample(x)
        out = convolved(self.conv1, self.bn1, x)
        return self.added(self.conv2, self.bn2, out, residual)


class _Bottleneck(Bottleneck, _Watched):  # type: ignore[misc]
    """Likewise."""

    def forward(self, x: Tensor) -> Tensor:
        residual = x if self.downsample is None else self.downsample(x)
        out = convolved(self.conv1, self.bn1, x)
        out = convolved(self.conv2, self.bn2, out)
        return self.added(self.conv3, self.bn3, out, residual)


class ResNetFeatures(ResNet):  # type: ignore[misc]
    """torchvision's ResNet without its classifier, of output stride 16 or 8.

    Attributes:
        pooled_by_kernel: the stem's normalisation, ReLU and pooling are one kernel of a GPU; only
            where the normalisation is frozen.
    """

    pooled_by_kernel = False

    def __init__(
        self, block: type[_BasicBlock] | type[_Bottleneck], layers: list[int], stride: int = 16
    ) -> None:
        # BasicBlock cannot be dilated by the constructor; both are dilated below, alike.
        super().__init__(block, layers, norm_layer=_norm)
        del self.avgpool, self.fc
        self.conv1: nn.Conv2d = Stem(self.conv1)
        _dilate(self.layer4 if stride == 16 else nn.Sequential(self.layer3, self.layer4))

    def forward(self, x: Tensor) -> Tensor:
        if self.pooled_by_kernel:
            from dkd.network.pooling_kernel import pooled

            x = pooled(self.bn1, self.conv1(x))
        else:
            x = self.maxpool(convolved(self.conv1, self.bn1, x))
        return cast(Tensor, self.layer4(self.layer3(self.layer2(self.layer1(x)))))


class _MobileNetV2Features(MobileNetV2):  # type: ignore[misc]
    """Up to the 320 channels of the last inverted residual, as DeepLab uses it.

    The 1x1 convolution to 1280 channels that follows serves the classifier, and would make ASPP
    four times as costly (MobileNetV2, arXiv 1801.04381).
    """

    def __init__(self, stride: int = 16) -> None:
        super().__init__(norm_layer=_norm)
        del self.classifier, self.features[18]
        _dilate(self.features[14 if stride == 16 else 7 :])

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.features(x))


class _MobileNetV3Features(nn.Module):
    """With the last 1x1 convolution, as torchvision's DeepLabV3 has it.

    A depthwise convolution whose stride goes is dilated itself, as torchvision does it
    (MobileNetV3, arXiv 1905.02244).
    """

    def __init__(self, stride: int = 16) -> None:
        super().__init__()
        norm = partial(BatchNorm2d, eps=0.001, momentum=0.01)
        self.features = mobilenet_v3_large(dilated=True, norm_layer=norm).features
        for layer in self.features[7:].modules() if stride == 8 else ():
            if isinstance(layer, nn.Conv2d) and layer.groups > 1:
                layer.stride = (1, 1)
                spread = 2 * layer.dilation[0]
                layer.dilation = (spread, spread)
                layer.padding = tuple(spread * (size // 2) for size in layer.kernel_size)

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.features(x))


class _DemoFeatures(nn.Module):
    """Seven 3x3 convolutions at output stride 4 or 8, for small scenes on one CPU core."""

    def __init__(self, stride: int = 4) -> None:
        super().__init__()
        self.stem = nn.Sequential(_unit(3, 16, stride=2), _unit(16, 32, stride=2))
        self.stage1 = _Residual(32)
        self.widen = _unit(32, 48, stride=stride // 4)
        self.stage2 = _Residual(48)

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.stage2(self.widen(self.stage1(self.stem(x)))))


class _Residual(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.unit = _unit(channels, channels)
        self.conv = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn = _norm(channels)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.relu(x + self.bn(self.conv(self.unit(x)))))


def _unit(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False),
        _norm(outputs),
        nn.ReLU(inplace=True),
    )


def watch_stages(backbone: nn.Module, watch: Callable[[Tensor], None]) -> None:
    """Has a function called with what each of a backbone's stages gives, in every pass.

    Before the stage's last activation where that is a ResNet's; other stages end in none, or
    their result is taken behind it.

    Args:
        backbone: of this module; of any other the result alone is looked at.
        watch: called once for each stage, first to last, with ``N x C x h x w``.
    """
    if isinstance(backbone, LayerNormalised):
        backbone.watch = watch
        return
    if isinstance(backbone, ResNetFeatures):
        for layer in (backbone.layer1, backbone.layer2, backbone.layer3, backbone.layer4):
            layer[-1].watch = watch
        return
    stages: list[nn.Module] = [backbone]
    if isinstance(backbone, _MobileNetV2Features):
        stages = [backbone.features[number] for number in (3, 6, 13, 17)]
    elif isinstance(backbone, _MobileNetV3Features):
        stages = [backbone.features[number] for number in (3, 6, 12, 16)]
    elif isinstance(backbone, _DemoFeatures):
        stages = [backbone.stem, backbone.stage1, backbone.widen, backbone.stage2]
    for stage in stages:
        stage.register_forward_hook(lambda _module, _inputs, result: watch(result))


def _dilate(stages: nn.Module) -> None:
    """Removes the strides of stages in a row; what comes after one sees as far as before.

    The layer whose stride goes spreads its taps as those before it; every later one twice as far.
    """
    dilation = 1
    for name, layer in stages.named_modules():
        if not isinstance(layer, nn.Conv2d):
            continue
        strided = layer.stride == (2, 2)
        layer.stride = (1, 1)
        if layer.kernel_size == (3, 3):
            layer.dilation = layer.padding = (dilation, dilation)
        if strided and "downsample" not in name:
            dilation *= 2


def dilate_whole_stages(backbone: nn.Module, stride: int) -> None:
    """Spreads the taps of every 3x3 convolution of a ResNet's dilated stages alike, in place.

    So segmentation_models_pytorch does it; torchvision spreads those of the convolution whose
    stride was removed as those before it.

    Args:
        backbone: a :class:`ResNetFeatures`.
        stride: its output stride, 8 or 16.
    """
    assert isinstance(backbone, ResNetFeatures), "the schema allows no other"
    for layer, usual in ((backbone.layer3, 16), (backbone.layer4, 32)):
        dilation = max(1, usual // stride)
        for module in layer.modules():
            if isinstance(module, nn.Conv2d) and module.kernel_size == (3, 3) and dilation > 1:
                module.dilation = module.padding = (dilation, dilation)


def shareable(network: nn.Module) -> nn.Module:
    """The network with :class:`~dkd.network.normalisation.BatchNorm2d` for PyTorch's own.

    Names, parameters and results stay. Any other batch normalisation would leave ranks on a CPU
    with statistics of their own.

    Raises:
        UserError: it has some.
    """
    for parent in list(network.modules()):
        for name, child in parent.named_children():
            if not isinstance(child, nn.modules.batchnorm._BatchNorm):
                continue
            if isinstance(child, BatchNorm2d):
                continue
            if type(child) is not nn.BatchNorm2d or not (child.affine and child.momentum):
                raise UserError(
                    f"network.backbone: its {name} is a {type(child).__name__}; only "
                    "torch.nn.BatchNorm2d with its defaults can be shared across ranks"
                )
            ours = BatchNorm2d(child.num_features, child.eps, child.momentum, device="meta")
            ours.load_state_dict(child.state_dict(), assign=True)
            setattr(parent, name, ours)
    return network


_RESNET, _MOBILENET = ("fc.",), ("classifier.",)

BACKBONES: dict[str, Backbone] = {
    "resnet101": Backbone(partial(ResNetFeatures, _Bottleneck, [3, 4, 23, 3]), 2048, _RESNET),
    "resnet152": Backbone(partial(ResNetFeatures, _Bottleneck, [3, 8, 36, 3]), 2048, _RESNET),
    "resnet50": Backbone(partial(ResNetFeatures, _Bottleneck, [3, 4, 6, 3]), 2048, _RESNET),
    "resnet34": Backbone(partial(ResNetFeatures, _BasicBlock, [3, 4, 6, 3]), 512, _RESNET),
    "resnet18": Backbone(partial(ResNetFeatures, _BasicBlock, [2, 2, 2, 2]), 512, _RESNET),
    "mobilenet_v2": Backbone(_MobileNetV2Features, 320, (*_MOBILENET, "features.18.")),
    "mobilenet_v3_large": Backbone(_MobileNetV3Features, 960, _MOBILENET),
    **{
        name: Backbone(partial(layer_normalised.Swin, name), channels, ("head.",))
        for size, channels in (("t", 768), ("s", 768), ("b", 1024))
        for name in (f"swin_{size}", f"swin_v2_{size}")
    },
    **{
        name: Backbone(partial(layer_normalised.ConvNeXt, name), channels, ("classifier.2.",))
        for name, channels in (("convnext_tiny", 768), ("convnext_base", 1024))
    },
    "demo": Backbone(_DemoFeatures, channels=48),
}
"""The package's own."""


def get(name: str) -> Backbone:
    """The backbone of this name, the package's own or another's.

    Raises:
        UserError: there is none, or the package that brings it cannot be used.
    """
    if name in BACKBONES:
        return BACKBONES[name]
    for entry in entry_points(group=backbones.BACKBONE_GROUP, name=name):
        try:
            found = entry.load()
        except (ImportError, AttributeError) as error:
            raise UserError(f"network.backbone: {name!r} is {entry.value}, but {error}") from None
        if not isinstance(found, Backbone):
            raise UserError(f"network.backbone: {name!r} is {entry.value}, no {__name__}.Backbone")
        return found
    raise UserError(
        f"network.backbone: {name!r} is none of {', '.join(backbones.names())}; one from outside "
        "needs its package installed"
    )
