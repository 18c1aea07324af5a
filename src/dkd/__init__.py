"""Class-incremental semantic segmentation: learn new classes step by step, keep the old.

A trained model in a program of one's own::

    import dkd

    model = dkd.load("s3://bucket/checkpoints/3f...")  # or a model's name: "street"
    seen = model.predict("photograph.jpg")
    seen.mask  # uint8 H x W; seen.class_names[seen.mask[y, x]] is what is there

What is wrong with the input is a :class:`dkd.UserError`, in one line.
"""

import os
from pathlib import Path
from typing import TYPE_CHECKING

from dkd.errors import UserError

if TYPE_CHECKING:
    from dkd.evaluation.segmenter import Segmenter

__all__ = ["UserError", "__version__", "load"]
__version__ = "0.1.0"


def load(
    checkpoint: str | Path, device: str | None = None, *, root: str | None = None
) -> "Segmenter":
    """A trained model, downloaded and verified once per machine.

    torch is imported when this is called.

    Args:
        checkpoint: URI or folder of the artifact, as a run names it; or a model's name: ``street``
            is its version in production, ``street:3`` its version 3.
        device: ``cpu``, ``cuda`` or ``cuda:1``; a GPU where there is one if None.
        root: artifact root where a name is looked up; ``$DKD_ROOT`` if None.

    Raises:
        UserError: nothing is there, it is no checkpoint, or it is damaged; there is no such model
            or version, or none is in production; or there is no such device.
    """
    from dkd.evaluation.segmenter import Segmenter
    from dkd.models import reference

    if isinstance(checkpoint, str) and (named := reference.VersionName.of(checkpoint)):
        place = root or os.environ.get("DKD_ROOT")
        if not place:
            raise UserError(
                f"{named}: no folder with a checkpoint, and no artifact root to look for a model "
                "of that name; give root, or set DKD_ROOT"
            )
        checkpoint = reference.resolve(place, named, lambda _line: None)
    return Segmenter.load(checkpoint, device)
