"""Rates and parameter groups, against the released program's schedules and settings."""

import json
import math
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dkd.methods import FIRST_STEP, METHODS, LossWeights
from dkd.network.deeplab import SegmentationModel, build, freeze_for_later_step, grow
from dkd.scenario.schema import FirstLater, Network, Training
from dkd.training import optimiser as optimisers

TRAINING = Training(
    epochs=Training.Epochs(first=1, later=1), batch_size=2, lr=FirstLater(first=0.1, later=0.01)
)


def first() -> SegmentationModel:
    return build(Network(backbone="demo", aspp_channels=8), [2])


def later() -> SegmentationModel:
    student = grow(first(), 3)
    freeze_for_later_step(student)
    return student


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


def settings(model: SegmentationModel, step: int, weights: LossWeights) -> dict[str, tuple]:
    """Rate and weight decay by parameter name."""
    optimiser = optimisers.optimiser(model, TRAINING, step, weights)
    optimisers.set_rates(optimiser, TRAINING, step, iteration=0, total=10)
    names = {id(p): name for name, p in model.named_parameters()}
    found = [
        (names[id(p)], (group["lr"], group["weight_decay"]))
        for group in optimiser.param_groups
        for p in group["params"]
    ]
    assert len(found) == len(dict(found))
    return dict(found)


def test_first_step() -> None:
    model = first()
    found = settings(model, 0, FIRST_STEP)
    assert set(found) == {name for name, _ in model.named_parameters()}
    for name, setting in found.items():
        assert setting == pytest.approx((0.1 if name.startswith("backbone.") else 1.0, 1e-4))


def test_later_steps_decay_the_new_head_alone_and_leave_batch_normalisation_out() -> None:
    model = later()
    found = settings(model, 1, LossWeights())
    norms = {
        f"{name}.{key}"
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.BatchNorm2d)
        for key in ("weight", "bias")
    }
    assert norms
    assert set(found) == {name for name, _ in model.named_parameters()} - norms
    for name, setting in found.items():
        rate = 0.01 if name.startswith("backbone.") else 0.1
        assert setting == pytest.approx((rate, 1e-4 if name.startswith("cls.2.") else 0.0))


def test_without_its_loss_the_auxiliary_classifier_stays_as_it_is() -> None:
    found = settings(later(), 1, METHODS["finetune"].weights)
    assert not [name for name in found if name.startswith("cls.0.")]


def test_momentum_is_nesterovs() -> None:
    optimiser = optimisers.optimiser(first(), TRAINING, 0, FIRST_STEP)
    assert all(g["nesterov"] and g["momentum"] == 0.9 for g in optimiser.param_groups)


def test_a_step_is_the_textbooks() -> None:
    """Two steps against Nesterov's formula written out (torch.optim.SGD's documentation)."""
    model = first().double()
    optimiser = optimisers.optimiser(model, TRAINING, 0, FIRST_STEP)
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
