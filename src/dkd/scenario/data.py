"""Where a scenario's images and masks are."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from dkd.scenario.strict_model import Seed, StrictModel

DataFormat = Literal[
    "voc",
    "ade20k",
    "cityscapes",
    "coco",
    "cvat",
    "folder",
    "hf",
    "label-studio",
    "yolo",
    "digits",
    "packed",
]


class Data(StrictModel):
    """Where images and masks are.

    Attributes:
        format: layout of the data set (``dkd data --help``). ``digits`` is the demonstration's,
            made on the spot; ``packed`` is what ``dkd data pack`` wrote.
        root: folder, or URI of a packed data set; not used by ``digits``.
        train: name of the training split's list (``voc``; the format's own by default).
        validation: likewise for the split that is evaluated.
        unlabelled: what pixels are that no annotation covers (``coco``, ``yolo``,
            ``label-studio``): ``background`` where whatever is not annotated is none of the
            classes, ``void`` where images are annotated in part.
        pack: put the images into the artifact store, so that workers need no folder.
        digits: size of the made data set.
    """

    class Digits(StrictModel):
        train: Annotated[int, Field(ge=10, le=1_000_000)] = 1200
        validation: Annotated[int, Field(ge=5, le=1_000_000)] = 200
        size: Annotated[int, Field(ge=32, le=512)] = 64
        seed: Seed = 1

    format: DataFormat
    root: str = ""
    train: str | None = None
    validation: str | None = None
    unlabelled: Literal["background", "void"] = "background"
    pack: bool = False
    digits: Digits = Digits()

    @model_validator(mode="after")
    def _root_given(self) -> Self:
        if self.format != "digits" and not self.root:
            raise ValueError("root: say where the data set is (--data PATH_OR_URI)")
        return self
