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
    "pictograms",
    "packed",
]

MADE: tuple[DataFormat, ...] = ("digits", "pictograms")
"""Formats whose data are drawn on the spot; their settings are the field of that name."""

NewPictogram = Literal["umbrella", "house", "guitar"]


class Data(StrictModel):
    """Where images and masks are.

    Attributes:
        format: layout of the data set, as ``dkd data --help`` lists them. ``pictograms``, which
            are the demonstration's, and ``digits`` are generated when needed; ``packed`` is what
            ``dkd data pack`` wrote.
        root: folder, or URI of a packed data set; digits and pictograms need none.
        train: list or sub-folder of the training images; null is the format's own.
        validation: list or sub-folder of the test images; null is the format's own.
        unlabelled: what pixels without an annotation are (``coco``, ``yolo``, ``label-studio``):
            ``background`` if everything that is not annotated belongs to no class, ``void`` if
            images are only partly annotated.
        pack: put the images into the artifact store, so that workers need no folder.
        digits: size of that data set.
        pictograms: size of the demonstration's data set.
    """

    class Made(StrictModel):
        """A data set that is made on the spot.

        Attributes:
            train: number of training images.
            validation: number of test images.
            size: width and height of an image, in pixels.
            seed: seed of everything that is random in it.
        """

        train: Annotated[int, Field(ge=10, le=1_000_000)] = 1200
        validation: Annotated[int, Field(ge=5, le=1_000_000)] = 200
        size: Annotated[int, Field(ge=32, le=512)] = 64
        seed: Seed = 1

    class Pictograms(Made):
        """The demonstration's scenes.

        Attributes:
            size: width and height of an image, in pixels.
            new_class: one more pictogram, for a model that knows the others: every scene shows
                it, and the training scenes label nothing else.
        """

        size: Annotated[int, Field(ge=32, le=512)] = 96
        new_class: NewPictogram | None = None

    format: DataFormat
    root: str = ""
    train: str | None = None
    validation: str | None = None
    unlabelled: Literal["background", "void"] = "background"
    pack: bool = False
    digits: Made = Made()
    pictograms: Pictograms = Pictograms()

    @property
    def made(self) -> Made:
        """How much is drawn of a format in :data:`MADE`."""
        settings: Data.Made = getattr(self, self.format)
        return settings

    @model_validator(mode="after")
    def _root_given(self) -> Self:
        if self.format not in MADE and not self.root:
            raise ValueError("root: say where the data set is (--data PATH_OR_URI)")
        return self
