"""Rates and the optimiser, against the released program's schedules and the textbook."""

import json
import math
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dkd.errors import UserError
from dkd.methods.base import group
from dkd.network.deeplab import SegmentationModel, build
from dkd.scenario.network import Network
from dkd.scenario.training import FirstLater, Training
from dkd.training import optimiser as optimisers

TRAINING = Training(
    epochs=Training.Epochs(first=1, later=1), batch_size=2, lr=FirstLater(first=0.1, later=0.01)
)


def first() -> SegmentationModel:
    return build(Network(backbone="demo", aspp_channels=8), [2])


@pytest.mark.parametrize(
    ("schedule", "key"), [("poly", "poly_power_0_9"), ("warmup_poly", "warmup_poly_0_2")]
)
def test_rates_are_the_released_programs(reference: Path, schedule: str, key: str) -> None:
    golden = json.loads((reference / "lr_golden.json").read_text())
    total, base = golden["max_iters"], golden["base_lr"]
    ours = [optimisers.rate(schedule, i, total, base) for i in range(len(golden[key]))]
    assert ours == pytest.approx(golden[key], rel=1e-12)


@given(st.sampled_from(["poly", "warmup_poly"]), st.integers(1, 5000), st.data())
def test_rates_stay_between_0_and_the_base(schedule: str, total: int, data: st.DataObject) -> None:
    iteration = data.draw(st.integers(0, total))
    rate = optimisers.rate(schedule, iteration, total, 0.5)
    assert 0 <= rate <= 0.5
    assert math.isfinite(rate)
    assert optimisers.rate(schedule, total, total, 0.5) == 0
    if schedule == "poly" or iteration >= 0.2 * total:
        assert rate == pytest.approx(0.5 * (1 - iteration / total) ** 0.9)


def groups(model: SegmentationModel) -> list[dict[str, Any]]:
    return [
        group("backbone", [model.backbone], 1.0, 1e-4),
        group("rest", [model.aspp, model.cls], 10.0, 1e-4),
        group("none", [], 10.0, 1e-4),
    ]


def test_what_has_the_rate_0_costs_no_gradients_and_changes_nothing_else() -> None:
    images = torch.randn(2, 3, 32, 32)

    def gradients(factor: float) -> dict[str, torch.Tensor | None]:
        torch.manual_seed(0)
        model = first().eval()
        parts = [group("backbone", [model.backbone], factor, 1e-4), *groups(model)[1:]]
        optimisers.optimiser(parts, TRAINING, 1)
        model(images).logits.square().sum().backward()
        return {name: parameter.grad for name, parameter in model.named_parameters()}

    learning, frozen = gradients(1.0), gradients(0.0)
    for name, gradient in frozen.items():
        if name.startswith("backbone."):
            assert gradient is None, name
        else:
            assert torch.equal(cast(torch.Tensor, gradient), cast(torch.Tensor, learning[name]))


def test_a_step_that_learns_nothing_is_refused() -> None:
    with pytest.raises(UserError, match=r"^training\.rates: every part has the rate 0, "):
        optimisers.optimiser([group("all", [first()], 0.0, 1e-4)], TRAINING, 1)


def test_momentum_is_nesterovs() -> None:
    optimiser = optimisers.optimiser(groups(first()), TRAINING, 0)
    assert all(g["nesterov"] and g["momentum"] == 0.9 for g in optimiser.param_groups)


def test_a_step_is_the_textbooks() -> None:
    """Two steps against Nesterov's formula written out (torch.optim.SGD's documentation)."""
    model = first().double()
    optimiser = optimisers.optimiser(groups(model), TRAINING, 0)
    parameter = model.cls[1].bias
    value, velocity = parameter.detach().clone(), None
    for iteration in range(2):
        optimisers.set_rates(optimiser, TRAINING, 0, iteration, 10)
        parameter.grad = torch.tensor([0.3, -0.2], dtype=torch.float64)
        gradient = parameter.grad + 1e-4 * value
        velocity = gradient if velocity is None else 0.9 * velocity + gradient
        value = value - 10 * 0.1 * (1 - iteration / 10) ** 0.9 * (gradient + 0.9 * velocity)
        optimiser.step()
    torch.testing.assert_close(parameter.detach(), value, rtol=1e-12, atol=0)
