"""Class-incremental semantic segmentation: learn new classes step by step, keep the old.

A trained model in a program of one's own::

    import dkd

    model = dkd.load("s3://bucket/checkpoints/3f...")
    seen = model.predict("photograph.jpg")
    seen.mask  # uint8 H x W; seen.class_names[seen.mask[y, x]] is what is there

What is wrong with the input is a :class:`dkd.UserError`, in one line.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from dkd.errors import UserError

if TYPE_CHECKING:
    from dkd.evaluation.segmenter import Segmenter

__all__ = ["UserError", "__version__", "load"]
__version__ = "0.1.0"


def load(checkpoint: str | Path, device: str | None = None) -> "Segmenter":
    """A trained model: :meth:`dkd.evaluation.segmenter.Segmenter.load`.

    torch is imported when this is called.
    """
    from dkd.evaluation.segmenter import Segmenter

    return Segmenter.load(checkpoint, device)
