"""How far a training is: the curve of its loss."""

import pytest
import torch

from dkd.errors import UserError
from dkd.training.loop import LossCurve


def test_a_curve_looks_at_its_last_iterations() -> None:
    """They fill no stretch: of 299 iterations, cut into stretches of two, the very last."""
    curve = LossCurve(every=3)
    for iteration in range(1, 6):
        loss = torch.tensor(float("nan") if iteration == 5 else 1.0)
        curve.add(iteration, {"total": loss})
    assert [point["iteration"] for point in curve.points] == [3]
    with pytest.raises(UserError, match=r"the loss is no longer finite at iteration 5"):
        curve.end(5)
    whole = LossCurve(every=3)
    for iteration in range(1, 6):
        whole.add(iteration, {"total": torch.tensor(1.0)})
    whole.end(5)
