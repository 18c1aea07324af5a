"""Backbones: images to feature maps, with torchvision's key names so that its weights fit.

All but ``demo`` are torchvision's networks without their classifier, brought to output stride
16 by dilating the last stage instead of striding it (DeepLabV3, arXiv 1706.05587).
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import cast

from torch import Tensor, nn
from torchvision.models.mobilenetv2 import MobileNetV2
from torchvision.models.resnet import BasicBlock, Bottleneck, ResNet

from dkd.network.normalisation import BatchNorm2d

# A tenth of the usual momentum, as in the published runs.
_norm = partial(BatchNorm2d, momentum=0.01)


@dataclass(frozen=True)
class Backbone:
    """A backbone as the decoder needs to know it.

    Attributes:
        make: builds the network with random weights.
        channels: of the feature map.
        stride: pixels of the image per feature, in each direction.
        dilations: of ASPP's three 3x3 branches.
    """

    make: Callable[[], nn.Module]
    channels: int
    stride: int = 16
    dilations: tuple[int, int, int] = (6, 12, 18)


class _ResNetFeatures(ResNet):  # type: ignore[misc]  # torchvision has no types
    def __init__(self, block: type[BasicBlock] | type[Bottleneck], layers: list[int]) -> None:
        # BasicBlock cannot be dilated by the constructor; both are dilated below, alike.
        super().__init__(block, layers, norm_layer=_norm)
        del self.avgpool, self.fc
        _dilate(self.layer4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        return cast(Tensor, self.layer4(self.layer3(self.layer2(self.layer1(x)))))


class _MobileNetV2Features(MobileNetV2):  # type: ignore[misc]
    """Up to the 320 channels of the last inverted residual, as DeepLab uses it.

    The 1x1 convolution to 1280 channels that follows serves the classifier, and would make ASPP
    four times as costly (MobileNetV2, arXiv 1801.04381).
    """

    def __init__(self) -> None:
        super().__init__(norm_layer=_norm)
        del self.classifier, self.features[18]
        _dilate(self.features[14:])

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.features(x))


class _DemoFeatures(nn.Module):
    """Seven 3x3 convolutions at output stride 4, for scenes of 64 pixels on one CPU core."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(_unit(3, 16, stride=2), _unit(16, 32, stride=2))
        self.stage1 = _Residual(32)
        self.widen = _unit(32, 48)
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


def _dilate(stage: nn.Module) -> None:
    """Removes the stage's stride; what came after it in the stage sees as far as before.

    The layer whose stride goes keeps its taps side by side; every later one spreads them by 2.
    """
    dilation = 1
    for name, layer in stage.named_modules():
        if not isinstance(layer, nn.Conv2d):
            continue
        if layer.stride == (2, 2):
            layer.stride = (1, 1)
            if "downsample" not in name:
                dilation = 2
        elif layer.kernel_size == (3, 3):
            layer.dilation = layer.padding = (dilation, dilation)


BACKBONES: dict[str, Backbone] = {
    "resnet101": Backbone(partial(_ResNetFeatures, Bottleneck, [3, 4, 23, 3]), channels=2048),
    "resnet50": Backbone(partial(_ResNetFeatures, Bottleneck, [3, 4, 6, 3]), channels=2048),
    "resnet18": Backbone(partial(_ResNetFeatures, BasicBlock, [2, 2, 2, 2]), channels=512),
    "mobilenet_v2": Backbone(_MobileNetV2Features, channels=320),
    "demo": Backbone(_DemoFeatures, channels=48, stride=4, dilations=(2, 4, 6)),
}
