"""At which rate a step learns: SGD, each group of parameters at its multiple of one rate.

The rate is a pure function of the iteration's number, set anew at every iteration, so there is
no state to save and none to get out of step.
"""

import math
from collections.abc import Iterable
from typing import Any, cast

import torch

from dkd.errors import UserError
from dkd.scenario.training import Schedule, Training

POWER = 0.9
WARMUP_SHARE = 0.2
WARMUP_START = 0.001


def rate(schedule: Schedule, iteration: int, total: int, base: float) -> float:
    """``training.lr`` as the schedule has it at an iteration; parts learn at multiples of it.

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
    groups: Iterable[dict[str, Any]], training: Training, step: int, fused: bool = False
) -> torch.optim.SGD:
    """Nesterov SGD over what learns in a step; :func:`set_rates` gives it its rates.

    What learns at 0 times the rate stays as it is, so its gradients are not computed from here on.

    Args:
        groups: the method's (:func:`dkd.methods.base.group`); those without parameters are left
            out.
        training: momentum and rates.
        step: 0 for the first.
        fused: one kernel for many parameters, instead of several for each.

    Raises:
        UserError: nothing learns.
    """
    groups = [group for group in groups if group["params"]]
    for group in groups:
        for parameter in group["params"]:
            parameter.requires_grad_(group["factor"] > 0)
    if not any(group["factor"] for group in groups):
        raise UserError("training.rates: every part has the rate 0, so that nothing would learn")
    return torch.optim.SGD(
        groups,
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
