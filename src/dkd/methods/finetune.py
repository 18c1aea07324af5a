"""Training on the new images alone."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import ClassVar

from dkd.losses.terms import LossWeights
from dkd.methods.dkd import DKD


class Finetune(DKD):
    """The lower bound: no teacher, and old classes are background where they are not labelled."""

    name = "finetune"
    summary = "trains on the new images alone: the lower bound, forgets"
    weights: ClassVar[Mapping[str, float]] = asdict(
        LossWeights(kd=0.0, dkd_pos=0.0, dkd_neg=0.0, ac=0.0)
    )
    covers_seen_classes = True
