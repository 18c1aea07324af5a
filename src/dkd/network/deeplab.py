"""DeepLabV3 for class-incremental segmentation: one head per step, an auxiliary classifier first.

Follows DeepLabV3 (arXiv 1706.05587) with the decoder and the heads of DKD (arXiv 2210.05941);
names of parameters and buffers are those of the authors' released checkpoints.
"""

import copy
from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dkd.network import backbones
from dkd.network.normalisation import BatchNorm2d
from dkd.scenario import imagenet
from dkd.scenario.network import Network


class Output(NamedTuple):
    """What a forward pass gives; everything at feature resolution ``h x w``.

    Attributes:
        features: ``N x C x h x w``, at least 0; of a model whose heads have maps of their own
            (:attr:`SegmentationModel.own_maps`), these side by side, C channels each.
        logits: ``N x (1 + K) x h x w``; channel 0 is the auxiliary classifier, which never
            predicts and sends no gradient into the features, or the background's
            (:attr:`SegmentationModel.background_channel`); channel ``k`` is class ``k``. The later
            heads' residuals come last, if there are any.
        positive: ``N x D x h x w``: what of the logits of classes 1..D speaks for them, the
            features times the positive part of the head's weights, without bias.
        negative: likewise, against them: positive + negative + bias = logits.
    """

    features: Tensor
    logits: Tensor
    positive: Tensor
    negative: Tensor


class Reading(NamedTuple):
    """How a model's logits are read (:mod:`dkd.network.prediction`).

    Attributes:
        align_corners: they are enlarged corner to corner.
        classes: number of the class of each channel, where several are one class; else empty.
    """

    align_corners: bool = False
    classes: tuple[int, ...] = ()


USUAL = Reading()
"""How every network's are read but those from other programs that do otherwise."""


class _Pooled(nn.Sequential):
    """ASPP's image-level branch; the children are numbered as in a released checkpoint."""

    def forward(self, x: Tensor) -> Tensor:
        pooled: Tensor = super().forward(x)  # type: ignore[no-untyped-call]
        return pooled.expand(-1, -1, *x.shape[-2:])


class ASPP(nn.Module):
    """Atrous spatial pyramid pooling and the decoder's last convolution.

    Args:
        inputs: channels of the backbone's features.
        channels: width of the branches and of the result.
        dilations: of the three 3x3 branches.
        dropout: share of the projected features that training drops.
    """

    def __init__(
        self, inputs: int, channels: int, dilations: Sequence[int], dropout: float = 0.1
    ) -> None:
        super().__init__()
        self.convs = nn.ModuleList(
            [
                _unit(inputs, channels, 1),
                *(_unit(inputs, channels, 3, dilation) for dilation in dilations),
                _Pooled(nn.AdaptiveAvgPool2d(1), *_unit(inputs, channels, 1)),
            ]
        )
        width = len(self.convs) * channels
        self.project = nn.Sequential(*_unit(width, channels, 1), nn.Dropout(dropout))
        self.last_conv = _unit(channels, channels, 3)

    def forward(self, x: Tensor) -> Tensor:
        """Features ``N x inputs x h x w`` to ``N x channels x h x w``, at least 0."""
        branches = list(self.convs)
        if x.is_cuda:
            # The last first: its gradient, of another layout, is then the last to be added.
            branches.reverse()
        found = {branch: branch(x) for branch in branches}
        x = self.project(torch.cat([found[branch] for branch in self.convs], dim=1))
        return cast(Tensor, self.last_conv(x))


def _unit(inputs: int, outputs: int, kernel: int, dilation: int = 1) -> nn.Sequential:
    padding = dilation if kernel == 3 else 0
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, padding=padding, dilation=dilation, bias=False),
        BatchNorm2d(outputs, momentum=0.1),
        nn.ReLU(inplace=True),
    )


class SegmentationModel(nn.Module):
    """Backbone, ASPP and heads. Make one with :func:`build` or :func:`grow`.

    Attributes:
        network: what it was made as.
        cls: the heads, 1x1 convolutions with bias: 0 is the auxiliary classifier (1 channel),
            ``k >= 1`` holds the classes of step ``k - 1``.
        own_maps: what makes of ASPP's features the map that head ``k >= 1`` reads (head 0: that of
            head 1); empty where all read ASPP's.
        residuals: where there are such maps, heads of one channel that read those of the second
            step and later: what they say below 0 is added to the background's logit.
        background_channel: head 0 is the background's instead, of a softmax over all channels
            or of sigmoids that are read alike: it learns like the others.
        merged: number of channels of each class, as far as classes have several: their logit is the
            largest of their channels'.
        statistics_frozen: all parts stay in eval mode under ``train()``: normalisation by running
            statistics, nothing dropped at random.
    """

    def __init__(self, network: Network, counts: Sequence[int], own_maps: bool = False) -> None:
        super().__init__()
        backbone = backbones.get(network.backbone)
        channels = network.aspp_channels
        self.network = network
        self.backbone = backbone.build(network.stride)
        if network.whole_stage_dilation:
            backbones.dilate_whole_stages(self.backbone, network.stride)
        self.aspp = ASPP(backbone.channels, channels, network.dilations, network.dropout)
        self.cls = nn.ModuleList(nn.Conv2d(channels, count, 1) for count in (1, *counts))
        steps = len(counts) if own_maps else 0
        self.own_maps = nn.ModuleList(_unit(channels, channels, 3) for _ in range(steps))
        self.residuals = nn.ModuleList(nn.Conv2d(channels, 1, 1) for _ in range(1, steps))
        self.background_channel = False
        self.merged: tuple[int, ...] = ()
        self.statistics_frozen = False

    @property
    def widths(self) -> tuple[int, ...]:
        """Number of channels of each class."""
        channels = sum(cast(nn.Conv2d, head).out_channels for head in self.cls[1:])
        return (*self.merged, *[1] * (channels - sum(self.merged)))

    @property
    def counts(self) -> tuple[int, ...]:
        """Number of classes by step."""
        last = list(accumulate(self.widths))
        heads = accumulate(cast(nn.Conv2d, head).out_channels for head in self.cls[1:])
        ends = [0, *(1 + last.index(channels) for channels in heads)]
        return tuple(end - start for start, end in pairwise(ends))

    @property
    def reading(self) -> Reading:
        """How its logits are to be read."""
        classes: tuple[int, ...] = ()
        if self.merged:
            classes = tuple(k for k, width in enumerate((1, *self.widths)) for _ in range(width))
        return Reading(bool(self.network.align_corners), classes)

    def head(self, number: int) -> nn.Conv2d:
        """One of the heads; negative numbers count from the newest."""
        return cast(nn.Conv2d, self.cls[number])

    @property
    def classes(self) -> int:
        """Number of foreground classes, K."""
        return sum(self.counts)

    def train(self, mode: bool = True) -> "SegmentationModel":
        """Sets training mode, except for what is frozen."""
        super().train(mode)
        if self.statistics_frozen:
            for part in self.children():
                part.eval()
        return self

    def normalised(self, images: Tensor) -> Tensor:
        """ImageNet's normalisation to the network's own; images that have that already, as is.

        Args:
            images: ``N x 3 x H x W``, or as :meth:`dkd.network.backbones.Stem.unshuffle` makes
                them of what this returned.
        """
        mean, std = self.network.normalisation
        usual = (imagenet.MEAN, imagenet.STD)
        if (mean, std) == usual or images.shape[1] != 3:
            return images
        scale, shift = (
            torch.tensor(values, dtype=images.dtype, device=images.device)[:, None, None]
            for values in (
                [ours / own for ours, own in zip(imagenet.STD, std, strict=True)],
                [(u - m) / s for u, m, s in zip(imagenet.MEAN, mean, std, strict=True)],
            )
        )
        return images * scale + shift

    def features(self, images: Tensor) -> Tensor:
        """RGB ``N x 3 x H x W`` to the decoder's ``N x C x h x w``, at least 0.

        Images come normalised by ImageNet's mean and deviation, whatever the network's own are.
        In the heads' own type also under autocast: the heads cost next to nothing, and logits of
        8 bits would blur what is distilled.
        """
        features = cast(Tensor, self.aspp(self.backbone(self.normalised(images))))
        if self.own_maps:
            features = torch.cat([own(features) for own in self.own_maps], dim=1)
        return features.to(cast(nn.Conv2d, self.cls[0]).weight.dtype)

    def logits(self, features: Tensor, size: tuple[int, int] | None = None) -> Tensor:
        """Logits ``N x (1 + K) x H x W`` at ``size`` (H, W), bilinear between the features.

        At the features' own resolution if that is None. One of every channel, whatever is
        merged: the largest is taken where they are read.
        As they are read (:mod:`dkd.network.prediction`): of a softmax, how much more likely each
        class is than background. Then the likeliest channel is a class where its logit is above
        0, whose sigmoid is above one half.
        """
        logits = self._heads(features)
        if self.residuals:
            channels = 1 + sum(self.widths)
            logits, residuals = logits[:, :channels], logits[:, channels:]
            background = logits[:, :1] + residuals.clamp(max=0).sum(1, keepdim=True)
            logits = torch.cat([background, logits[:, 1:]], dim=1)
        if self.background_channel:
            logits = logits - logits[:, :1]
        return logits if size is None else upsample(logits, size, self.reading)

    def forward(self, images: Tensor, decomposed: int = 0) -> Output:
        """Everything the losses need, so that a wrapper like DDP sees every use of a parameter.

        Args:
            images: ``N x 3 x H x W``, normalised RGB.
            decomposed: for how many classes, from class 1 on, to give the positive and negative
                logits: the old classes in training, 0 where nothing is distilled.
        """
        features = self.features(images)
        logits = self._heads(features)
        positive = negative = features[:, :0]
        if decomposed:
            channels = sum(self.widths[:decomposed])
            weight = self._foreground_weight()[:channels]
            both = _score(features, torch.cat([weight.clamp(min=0), weight.clamp(max=0)]))
            positive, negative = both[:, :channels], both[:, channels:]
        if self.merged:
            largest = self._largest(logits)
            logits = logits.gather(1, largest)
            largest = largest[:, 1 : 1 + decomposed] - 1
            positive, negative = positive.gather(1, largest), negative.gather(1, largest)
        return Output(features, logits, positive, negative)

    def _largest(self, logits: Tensor) -> Tensor:
        """Which channel of each class, background's or the auxiliary's first, is the largest."""
        blocks = torch.split(logits.detach(), [1, *self.widths], dim=1)
        starts = accumulate((0, 1, *self.widths[:-1]))
        places = [b.argmax(1, keepdim=True) + s for b, s in zip(blocks, starts, strict=True)]
        return torch.cat(places, dim=1)

    def _foreground_weight(self) -> Tensor:
        return torch.cat([cast(Tensor, head.weight) for head in self.cls[1:]])

    def _heads(self, features: Tensor) -> Tensor:
        if self.own_maps:
            maps = features.chunk(len(self.own_maps), dim=1)
            read = [maps[0], *maps, *maps[1:]]
            heads = [cast(nn.Conv2d, head) for head in (*self.cls, *self.residuals)]
            return torch.cat(
                [_score(x, h.weight, h.bias) for x, h in zip(read, heads, strict=True)], dim=1
            )
        bias = torch.cat([cast(Tensor, head.bias) for head in self.cls[1:]])
        auxiliary = cast(nn.Conv2d, self.cls[0])
        return torch.cat(
            [
                _score(
                    features if self.background_channel else features.detach(),
                    auxiliary.weight,
                    auxiliary.bias,
                ),
                _score(features, self._foreground_weight(), bias),
            ],
            dim=1,
        )


def _score(features: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    with torch.autocast(features.device.type, enabled=False):
        return F.conv2d(features, weight, bias)


def upsample(logits: Tensor, size: tuple[int, int], reading: Reading = USUAL) -> Tensor:
    """Bilinear interpolation to ``size`` (H, W), in at least float32."""
    if logits.dtype in (torch.bfloat16, torch.float16):
        logits = logits.float()
    return F.interpolate(logits, size=size, mode="bilinear", align_corners=reading.align_corners)


def build(network: Network, counts: Sequence[int], own_maps: bool = False) -> SegmentationModel:
    """A model as step 0 starts, but for the backbone's initial weights; all of it is random.

    Every convolution of ASPP and every head is drawn by Kaiming normal, fan in, gain sqrt 2, as
    the released program does; the heads' biases are uniform within 1 / sqrt(fan in), which is
    PyTorch's default. Draws come from torch's global generator.

    Args:
        network: backbone and width.
        counts: number of classes by step.
        own_maps: every head reads a map of its own.
    """
    model = SegmentationModel(network, counts, own_maps)
    for module in (*model.aspp.modules(), *model.cls, *model.own_maps.modules()):
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_in", nonlinearity="relu")
    return model


def grow(teacher: SegmentationModel, new: int) -> SegmentationModel:
    """The student of the next step: the teacher's copy with a head for the new classes.

    Each channel of the new head is a copy of the auxiliary classifier, which has learned "none
    of the classes known" (arXiv 2210.05941).

    Args:
        teacher: model of the previous step; it stays as it is.
        new: number of new classes.
    """
    student = copy.deepcopy(teacher).requires_grad_(True)
    auxiliary = cast(nn.Conv2d, student.cls[0])
    head = nn.Conv2d(auxiliary.in_channels, new, 1).to(auxiliary.weight)
    with torch.no_grad():
        head.weight.copy_(auxiliary.weight.expand_as(head.weight))
        cast(Tensor, head.bias).copy_(cast(Tensor, auxiliary.bias).expand(new))
    student.cls.append(head)
    return student


_NORMALISATIONS = (nn.modules.batchnorm._BatchNorm, nn.LayerNorm, nn.GroupNorm)


def rearranged(
    model: SegmentationModel, steps: Sequence[Sequence[Sequence[int]]]
) -> SegmentationModel:
    """A model of some of another's channels, on the CPU.

    Args:
        model: it stays as it is.
        steps: by step and class, the numbers of its channels, from 1 on; one that has several is
            the largest of them. As many steps as before where heads have maps of their own.
    """
    channels = [[number for numbers in classes for number in numbers] for classes in steps]
    counts = [len(numbers) for numbers in channels]
    made = SegmentationModel(model.network, counts, own_maps=bool(model.own_maps))
    state = model.state_dict()
    kept = {name: tensor for name, tensor in state.items() if not name.startswith("cls.")}
    for kind in ("weight", "bias"):
        kept[f"cls.0.{kind}"] = state[f"cls.0.{kind}"]
        every = torch.cat([state[f"cls.{k}.{kind}"] for k in range(1, len(model.cls))])
        for step, numbers in enumerate(channels, start=1):
            kept[f"cls.{step}.{kind}"] = every[[number - 1 for number in numbers]]
    made.load_state_dict(kept)
    made.background_channel = model.background_channel
    made.merged = merged([len(numbers) for classes in steps for numbers in classes])
    return made


def merged(widths: Sequence[int]) -> tuple[int, ...]:
    """:attr:`SegmentationModel.merged` of classes with so many channels each."""
    last = max((k for k, width in enumerate(widths, start=1) if width > 1), default=0)
    return tuple(widths[:last])


def freeze_for_later_step(model: SegmentationModel) -> None:
    """Prepares a student for a step > 0, in place.

    Every batch normalisation uses its running statistics and keeps them, no normalisation's affine
    parameters are learned (layer and group normalisation have nothing else that could be frozen:
    their statistics are of each image alone), and dropout and stochastic depth are off, whatever
    ``train()`` is called with later.
    """
    model.statistics_frozen = True
    for module in model.modules():
        if isinstance(module, _NORMALISATIONS):
            module.requires_grad_(False)
    model.train(model.training)
