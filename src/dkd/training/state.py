"""How far a training is: what is saved of it, and what is shown."""

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from dkd.network.deeplab import SegmentationModel
from dkd.steps.step import Step
from dkd.training.divergence import diverged


@dataclass
class LossCurve:
    """Mean loss terms over equal stretches of a step's iterations.

    Attributes:
        every: iterations of a stretch.
        points: ``{"iteration": i, "<term>": mean, ...}`` per whole stretch.
        sums: the terms' sums over the stretch under way.
    """

    every: int
    points: list[dict[str, float]] = field(default_factory=list)
    sums: dict[str, Tensor] = field(default_factory=dict)

    def add(self, iteration: int, terms: dict[str, Tensor]) -> None:
        """Takes in an iteration's terms; looks at their values once per stretch only, because
        that waits for the device.
        """
        for name, term in terms.items():
            self.sums[name] = self.sums.get(name, 0) + term.double()
        if iteration % self.every == 0:
            means = {name: float(total) / self.every for name, total in self.sums.items()}
            self.points.append({"iteration": iteration, **means})
            self.sums = {}
            if not math.isfinite(means["total"]):
                raise diverged("the loss", iteration)

    def end(self, iteration: int) -> None:
        """Looks at the iterations since the last whole stretch too: the training ends here."""
        if self.sums and not math.isfinite(float(self.sums["total"])):
            raise diverged("the loss", iteration)


class TrainingState:
    """A training under way.

    Attributes:
        step: what is trained.
        student: the model, as it is now.
        optimiser: its momenta too.
        scaler: of the gradients, with float16.
        iteration: number of iterations that are done.
        total: number of those that are to be done.
        curve: of the loss, so far.
        waited: seconds that the loop has waited for images, in this process.
    """

    step: Step
    student: SegmentationModel
    optimiser: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    iteration: int
    total: int
    curve: LossCurve
    waited: float
