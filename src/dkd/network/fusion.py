"""EWF: a step's model fused with the one before by their weights (CVPR 2023).

What a step has learned too one-sidedly is brought back half-way; the new head stays as it is.
Nothing is added to the training, and the fused model is what the next step starts from.
"""

import math
from collections.abc import Mapping

import torch
from torch import Tensor


def new_share(new: int, channels: int) -> float:
    """How much of the new model goes into the fused one: sqrt(V / A).

    Args:
        new: number of new classes, V.
        channels: of all classes and the background, A.
    """
    return math.sqrt(new / channels)


def fused(
    before: Mapping[str, Tensor], after: Mapping[str, Tensor], share: float
) -> dict[str, Tensor]:
    """The fused parameters and buffers.

    Args:
        before: of the previous step's model.
        after: of the new one, which has all of these and its head besides.
        share: of the new model.

    Returns:
        (1 - share) before + share after; numbers that are counted and what is new are the new
        model's.
    """
    return {
        name: tensor
        if name not in before or not tensor.is_floating_point()
        else torch.lerp(before[name].to(tensor), tensor, share)
        for name, tensor in after.items()
    }
