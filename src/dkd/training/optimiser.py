"""What is optimised, at which rate: SGD with one rate for the backbone and ten times that beyond.

The rate is a pure function of the iteration's number, set anew at every iteration, so there is
no state to save and none to get out of step.
"""

import math
from typing import cast

import torch
from torch import nn

from dkd.methods import LossWeights
from dkd.network.deeplab import SegmentationModel
from dkd.scenario.schema import Schedule, Training

# ASPP and the heads learn this many times as fast as the backbone, as in the released program.
HEAD_FACTOR = 10.0
POWER = 0.9
WARMUP_SHARE = 0.2
WARMUP_START = 0.001


def rate(schedule: Schedule, iteration: int, total: int, base: float) -> float:
    """The backbone's learning rate at an iteration.

    Args:
        schedule: ``poly`` decays as (1 - progress)^0.9; ``warmup_poly`` multiplies that by a
            linear rise from 0.001 to 1 over the first fifth of the iterations.
        iteration: 0 <= iteration <= total; at ``total`` the rate is 0.
        total: iterations of the step.
        base: rate that the decay starts from.
    """
    decayed = base * math.pow(max(0.0, 1 - iteration / total), POWER)
    if schedule == "poly":
        return decayed
    progress = min(1.0, iteration / (WARMUP_SHARE * total))
    return decayed * (WARMUP_START + (1 - WARMUP_START) * progress)


def optimiser(
    model: SegmentationModel,
    training: Training,
    step: int,
    weights: LossWeights,
    fused: bool = False,
) -> torch.optim.SGD:
    """Nesterov SGD over what learns in a step; :func:`set_rates` gives it its rates.

    Weight decay acts on everything at step 0, later on the new head alone: what the old classes
    stand on is not pulled towards 0 when no image shows them. Parameters that require no
    gradient (batch normalisation of later steps) are left out, and so is the auxiliary
    classifier where no term of the loss teaches it.

    Args:
        model: the student, already frozen as the step asks.
        training: momentum, weight decay and rates.
        step: 0 for the first.
        weights: the step's loss weights.
        fused: one kernel for many parameters, instead of several for each.
    """
    decay = training.weight_decay
    heads = list(model.cls[1:])
    old, new = heads[:-1], heads[-1]
    auxiliary = [model.cls[0]] if weights.ac else []
    kept = decay if step == 0 else 0.0
    groups = [
        _group("backbone", [model.backbone], 1.0, kept),
        _group("aspp", [model.aspp], HEAD_FACTOR, kept),
        _group("auxiliary", auxiliary, HEAD_FACTOR, kept),
        _group("old_heads", old, HEAD_FACTOR, kept),
        _group("new_head", [new], HEAD_FACTOR, decay),
    ]
    return torch.optim.SGD(
        [group for group in groups if group["params"]],
        lr=training.lr.at(step),
        momentum=training.momentum,
        nesterov=training.momentum > 0,
        fused=fused,
    )


def set_rates(
    optimiser: torch.optim.Optimizer, training: Training, step: int, iteration: int, total: int
) -> None:
    """Sets every group's rate for an iteration (counted from 0) of ``total``."""
    base = rate(training.schedule, iteration, total, training.lr.at(step))
    for group in optimiser.param_groups:
        group["lr"] = base * cast(float, group["factor"])


def _group(
    name: str, modules: list[nn.Module], factor: float, weight_decay: float
) -> dict[str, object]:
    parameters = [p for module in modules for p in module.parameters() if p.requires_grad]
    return {"name": name, "params": parameters, "factor": factor, "weight_decay": weight_decay}
