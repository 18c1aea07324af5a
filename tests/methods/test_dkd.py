"""What DKD and its two bounds optimise, against the released program's settings."""

import pytest
import torch
from step_runs import scenario

from dkd.methods import METHODS, Method
from dkd.methods.base import Circumstances
from dkd.network.deeplab import SegmentationModel, build, freeze_for_later_step, grow
from dkd.network.speed import decided
from dkd.scenario.schema import Network
from dkd.training import optimiser as optimisers


def first() -> SegmentationModel:
    return build(Network(backbone="demo", aspp_channels=8), [2])


def later() -> SegmentationModel:
    student = grow(first(), 3)
    freeze_for_later_step(student)
    return student


def method(name: str, student: SegmentationModel, step: int) -> Method:
    given = scenario(**{"training.lr.first": 0.1, "training.lr.later": 0.01})
    speed = decided(given.speed, gpu=False)
    told = Circumstances(given, step, False, speed, lambda tensor: tensor, lambda value: [value])
    return METHODS[name](student, first() if step else None, told)


def settings(name: str, model: SegmentationModel, step: int) -> dict[str, tuple[float, float]]:
    """Rate and weight decay by parameter name."""
    made = method(name, model, step)
    training = made.given.scenario.training
    optimiser = optimisers.optimiser(made.groups(), training, step)
    optimisers.set_rates(optimiser, training, step, iteration=0, total=10)
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
    found = settings("dkd", model, 0)
    assert set(found) == {name for name, _ in model.named_parameters()}
    for name, setting in found.items():
        assert setting == pytest.approx((0.1 if name.startswith("backbone.") else 1.0, 1e-4))


def test_later_steps_decay_the_new_head_alone_and_leave_batch_normalisation_out() -> None:
    model = later()
    found = settings("dkd", model, 1)
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
    found = settings("finetune", later(), 1)
    assert not [name for name in found if name.startswith("cls.0.")]


def test_a_teacher_is_played_only_where_it_is_asked() -> None:
    assert len(method("dkd", later(), 1).played) == 2
    assert len(method("dkd", first(), 0).played) == 1
    assert len(method("finetune", later(), 1).played) == 1


def test_step_0_has_the_weights_of_what_it_learns() -> None:
    for name in ("dkd", "finetune", "joint"):
        weights = METHODS[name].weights_at(0, {"kd": 3, "ac": 0.5})
        assert weights == {"mbce": 1.0, "kd": 0.0, "dkd_pos": 0.0, "dkd_neg": 0.0, "ac": 0.5}
    later = METHODS["dkd"].weights_at(1, {"kd": 3, "ac": 0.5})
    assert later == {"mbce": 1.0, "kd": 3.0, "dkd_pos": 5.0, "dkd_neg": 5.0, "ac": 0.5}
