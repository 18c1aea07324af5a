"""DeepLabV3 with one head per step, its backbones, and what loads weights into them."""

from dkd.network.deeplab import Output, SegmentationModel, build, freeze_for_later_step, grow
from dkd.network.normalisation import synchronise

__all__ = [
    "Output",
    "SegmentationModel",
    "build",
    "freeze_for_later_step",
    "grow",
    "synchronise",
]
