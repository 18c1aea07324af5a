"""The network that a scenario trains, as fields and as keys and checkpoints describe it."""

from collections.abc import Mapping
from typing import Annotated, Any, Self
from urllib.parse import urlsplit

from pydantic import Field, ValidationInfo, field_validator, model_validator

from dkd.scenario import backbones, imagenet
from dkd.scenario.strict_model import StrictModel

Dilation = Annotated[int, Field(ge=1, le=256)]
Mean = Annotated[float, Field(ge=0, le=1)]
Deviation = Annotated[float, Field(ge=1e-3, le=1)]


class Network(StrictModel):
    """DeepLabV3 on a backbone of torchvision or of another package.

    Attributes:
        backbone: name of the backbone. ``demo`` is a small one for the demonstration.
        weights: what the backbone starts from at step 0: ``imagenet`` (torchvision's
            ``IMAGENET1K_V1``), ``none`` (random), or a .pth or safetensors file with torchvision's
            tensor names, by path or URI. Null is ``imagenet`` if there are such weights, else
            ``none``.
        aspp_channels: width of ASPP's branches and of the features.
        output_stride: pixels of the image per feature, in each direction; null is 16, and 4 for
            ``demo``. A smaller stride keeps more detail and costs more.
        aspp_dilations: dilations of ASPP's three 3x3 branches; null is 6, 12, 18, and for ``demo``
            2, 4, 6.
        aspp_dropout: share of ASPP's features that step 0 drops; null is 0.1.
        whole_stage_dilation: in a ResNet, dilate every convolution of a stage equally, as
            segmentation_models_pytorch does. Null and false leave the convolution whose stride
            was removed as the ones before it, as torchvision does.
        align_corners: enlarge logits corner to corner, as segmentation_models_pytorch does. With
            null and false each feature stands for a square of pixels, as in torchvision.
        mean: mean of red, green and blue in [0, 1], subtracted from every image; null is
            ImageNet's.
        std: deviation of red, green and blue, by which every image is divided; null is ImageNet's.
    """

    backbone: str = "resnet101"
    weights: str | None = None
    aspp_channels: Annotated[int, Field(ge=8, le=8192)] = 256
    output_stride: Annotated[int, Field(ge=4, le=32)] | None = None
    aspp_dilations: Annotated[tuple[Dilation, Dilation, Dilation], Field(strict=False)] | None = (
        None
    )
    aspp_dropout: Annotated[float, Field(ge=0, lt=1)] | None = None
    whole_stage_dilation: bool | None = None
    align_corners: bool | None = None
    mean: Annotated[tuple[Mean, Mean, Mean], Field(strict=False)] | None = None
    std: Annotated[tuple[Deviation, Deviation, Deviation], Field(strict=False)] | None = None

    @property
    def stride(self) -> int:
        """:attr:`output_stride` with its default."""
        return self.output_stride or backbones.output_strides(self.backbone)[0]

    @property
    def dilations(self) -> tuple[int, int, int]:
        """:attr:`aspp_dilations` with its default."""
        return self.aspp_dilations or ((2, 4, 6) if self.backbone == "demo" else (6, 12, 18))

    @property
    def dropout(self) -> float:
        """:attr:`aspp_dropout` with its default."""
        return 0.1 if self.aspp_dropout is None else self.aspp_dropout

    @property
    def normalisation(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """:attr:`mean` and :attr:`std` with their defaults."""
        return self.mean or imagenet.MEAN, self.std or imagenet.STD

    def structure(self) -> dict[str, Any]:
        """What the network is, whatever it started from, as keys and checkpoints say it.

        Fields of their default's value are left out but for the first two, which were there
        first: so a network that was there before has the key that it had.
        """
        usual = Network(backbone=self.backbone, weights="none")
        mean, std = self.normalisation
        fields: tuple[tuple[str, Any, Any], ...] = (
            ("output_stride", self.stride, usual.stride),
            ("aspp_dilations", list(self.dilations), list(usual.dilations)),
            ("aspp_dropout", self.dropout, usual.dropout),
            ("whole_stage_dilation", bool(self.whole_stage_dilation), False),
            ("align_corners", bool(self.align_corners), False),
            ("mean", list(mean), list(imagenet.MEAN)),
            ("std", list(std), list(imagenet.STD)),
        )
        unusual = {field: value for field, value, default in fields if value != default}
        return {"backbone": self.backbone, "aspp_channels": self.aspp_channels, **unusual}

    @classmethod
    def of_structure(cls, described: Mapping[str, Any]) -> Self:
        """The network that a checkpoint or scenario describes, whatever else it says of it."""
        known = cls.model_fields.keys() - {"weights"}
        return cls(**{name: described[name] for name in sorted(known & described.keys())})

    @property
    def initial_weights(self) -> str:
        """``imagenet``, ``none``, or a path or URI: :attr:`weights` with its default."""
        if self.weights is None:
            return "imagenet" if self.backbone in imagenet.FILES else "none"
        return self.weights

    @field_validator("backbone")
    @classmethod
    def _backbone_known(cls, value: str) -> str:
        if not backbones.known(value):
            raise ValueError(
                f"{value!r} is none of {', '.join(backbones.names())}; one from outside needs its "
                "package installed"
            )
        return value

    @field_validator("output_stride")
    @classmethod
    def _stride_possible(cls, value: int | None, others: ValidationInfo) -> int | None:
        name = others.data.get("backbone", "")
        if value is not None and value not in (strides := backbones.output_strides(name)):
            possible = " or ".join(map(str, sorted(strides)))
            raise ValueError(f"of {name} it is {possible}, not {value}")
        return value

    @model_validator(mode="after")
    def _dilation_possible(self) -> Self:
        if self.whole_stage_dilation and self.backbone not in backbones.RESNETS:
            raise ValueError(f"whole_stage_dilation: is for ResNets, not for {self.backbone}")
        return self

    @model_validator(mode="after")
    def _weights_known(self) -> Self:
        if self.weights is not None and not self.weights.strip():
            raise ValueError("weights: empty; write imagenet, none, or a file's path or URI")
        address = urlsplit(self.weights or "")
        if address.scheme in ("http", "https") and (address.query or "@" in address.netloc):
            raise ValueError(
                "weights: an address with a key in it would be kept with every result; use dkd "
                "weights add ADDRESS"
            )
        if self.weights == "imagenet" and self.backbone not in imagenet.FILES:
            raise ValueError(
                f"weights: there are no ImageNet weights of the backbone {self.backbone}; write "
                "none"
            )
        return self
