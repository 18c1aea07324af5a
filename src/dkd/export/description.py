"""What an exported model says of itself, in its file. No torch here: serving reads it."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from dkd.data.channels import predicted_type
from dkd.data.palettes import Colour
from dkd.errors import UserError, require_known_format
from dkd.evaluation.colouring import palette
from dkd.scenario.names import BACKGROUND_NAME

KEY = "dkd"
"""Name of the metadata entry of an ONNX file; of a .pt2, ``dkd.json`` among its extra files."""

FORMAT = 1
INPUT = "image"
Gives = Literal["mask", "logits"]
ExportPrecision = Literal["fp32", "fp16"]


@dataclass(frozen=True)
class MaskValue:
    """A value of the mask.

    Attributes:
        value: channel number.
        name: of the class, or ``background``.
        step: that it was learned at; None is background's.
        colour: RGB, for masks that people look at.
    """

    value: int
    name: str
    step: int | None
    colour: Colour


@dataclass(frozen=True)
class Description:
    """What an exported model takes, gives and knows.

    Attributes:
        gives: ``mask``: pixels ``N x H x W x 3`` (uint8, RGB) become channel numbers ``N x H x W``
            (uint8; int32 beyond 254 classes); resizing and enlargement are in the graph.
            ``logits``: pixels resized beforehand become ``N x K x h x w`` (float32), for the
            classes 1..K, one for each ``stride`` pixels.
        classes: by channel: background, then the classes in the order of learning.
        dataset: name of the data set that the model learned from.
        checkpoint: digest of the checkpoint it was made of.
        short_side: pixels to which an image's short side is resized.
        mean: of each colour in 0..1, that the graph subtracts.
        std: that it divides by then.
        precision: that the network computes in.
        stride: pixels of the resized image per logit, in each direction.
        align_corners: logits are enlarged corner to corner.
    """

    gives: Gives
    classes: tuple[MaskValue, ...]
    dataset: str
    checkpoint: str
    short_side: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    precision: ExportPrecision
    stride: int
    align_corners: bool = False

    @property
    def class_names(self) -> tuple[str, ...]:
        """By channel."""
        return tuple(each.name for each in self.classes)

    @property
    def mask_type(self) -> str:
        """Type of the mask's values: uint8, or int32 beyond 254 classes."""
        return predicted_type(len(self.classes) - 1).name

    @property
    def colours(self) -> tuple[Colour, ...]:
        """By channel."""
        return tuple(each.colour for each in self.classes)

    def to_json(self) -> str:
        """As it is kept in a file."""
        document = {
            "format": FORMAT,
            **asdict(self),
            "input": (
                "uint8 N x H x W x 3, RGB, upright"
                if self.gives == "mask"
                else "uint8 N x h x w x 3, RGB, upright, the short side resized to short_side "
                "(bilinear, antialiased)"
            ),
            "output": (
                f"{self.mask_type} N x H x W, values of classes"
                if self.gives == "mask"
                else "float32 N x K x h/stride x w/stride, logits of the classes 1..K: enlarged "
                "to the image's size (bilinear, align_corners), the highest one is the pixel's "
                "class if it is over 0, else the pixel is background"
            ),
        }
        return json.dumps(document, ensure_ascii=False)


def describe(
    steps: Sequence[Sequence[str]],
    *,
    gives: Gives,
    dataset: str,
    checkpoint: str,
    short_side: int,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    precision: ExportPrecision,
    stride: int,
    align_corners: bool = False,
) -> Description:
    """The description of a model of these classes, by the step that they were learned at."""
    names = [name for each in steps for name in each]
    learned = [number for number, each in enumerate(steps) for _ in each]
    colours = palette(names, dataset)
    classes = [MaskValue(0, BACKGROUND_NAME, None, colours[0])]
    for value, (name, step) in enumerate(zip(names, learned, strict=True), start=1):
        classes.append(MaskValue(value, name, step, colours[value]))
    return Description(
        gives,
        tuple(classes),
        dataset,
        checkpoint,
        short_side,
        mean,
        std,
        precision,
        stride,
        align_corners,
    )


def from_json(text: str, source: str) -> Description:
    """Reads what :meth:`Description.to_json` wrote; the file may come from anywhere.

    Args:
        text: JSON.
        source: of it, for messages.

    Raises:
        UserError: it is not what is written here.
    """
    try:
        document: dict[str, Any] = json.loads(text)
        require_known_format(document["format"], FORMAT, source)
        if document["format"] != FORMAT:
            raise ValueError(f"format {document['format']!r}, known is {FORMAT}")
        if document["gives"] not in ("mask", "logits"):
            raise ValueError(f"gives {document['gives']!r}")
        classes = tuple(
            MaskValue(int(each["value"]), str(each["name"]), each["step"], _colour(each["colour"]))
            for each in document["classes"]
        )
        if [each.value for each in classes] != list(range(len(classes))) or len(classes) < 2:
            raise ValueError("its classes are not numbered from 0")
        red, green, blue = (float(value) for value in document["mean"])
        deviations = [float(value) for value in document["std"]]
        return Description(
            gives=document["gives"],
            classes=classes,
            dataset=str(document["dataset"]),
            checkpoint=str(document["checkpoint"]),
            short_side=int(document["short_side"]),
            mean=(red, green, blue),
            std=(deviations[0], deviations[1], deviations[2]),
            precision=document["precision"],
            stride=int(document["stride"]),
            align_corners=bool(document["align_corners"]),
        )
    except (ValueError, KeyError, TypeError, IndexError, RecursionError) as error:
        raise UserError(
            f"{source}: what it says of itself was not written by `dkd export` "
            f"({type(error).__name__}: {error}); export the model again"
        ) from None


def _colour(levels: Sequence[Any]) -> Colour:
    red, green, blue = (int(level) for level in levels)
    if not all(0 <= level <= 255 for level in (red, green, blue)):
        raise ValueError(f"colour {list(levels)}")
    return red, green, blue
