"""What DKD and its two bounds optimise, against the released program's settings."""

from pathlib import Path

import pytest
import torch
from learning import learn
from step_runs import scenario

from dkd.errors import UserError
from dkd.methods import METHODS, Method
from dkd.methods.base import Circumstances
from dkd.network.deeplab import SegmentationModel, build, freeze_for_later_step, grow
from dkd.network.speed import decided
from dkd.scenario.network import Network
from dkd.training import optimiser as optimisers


def first() -> SegmentationModel:
    return build(Network(backbone="demo", aspp_channels=8), [2])


def later() -> SegmentationModel:
    student = grow(first(), 3)
    freeze_for_later_step(student)
    return student


def method(name: str, student: SegmentationModel, step: int, **values: object) -> Method:
    given = scenario(**{"training.lr.first": 0.1, "training.lr.later": 0.01, **values})
    speed = decided(given.speed, gpu=False)
    told = Circumstances(given, step, False, speed, lambda tensor: tensor, lambda value: [value])
    return METHODS[name](student, first() if step else None, told)


def settings(
    name: str, model: SegmentationModel, step: int, **values: object
) -> dict[str, tuple[float, float]]:
    """Rate and weight decay by parameter name."""
    made = method(name, model, step, **values)
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


@pytest.mark.parametrize("name", ["dkd", "star", "finetune"])
def test_a_scenario_says_how_fast_a_part_learns_at_later_steps(name: str) -> None:
    usual, model = settings(name, later(), 1), later()
    found = settings(name, model, 1, **{"training.rates": {"new_head": 30, "backbone": 0}})
    assert found.keys() == usual.keys()
    for parameter, (rate, decay) in found.items():
        factor = 30 if parameter.startswith("cls.2.") else 0 if "backbone" in parameter else None
        expected = usual[parameter][0] if factor is None else 0.01 * factor
        assert (rate, decay) == pytest.approx((expected, usual[parameter][1]))
    first_rates = settings(name, first(), 0, **{"training.rates": {"new_head": 30}})
    assert first_rates["cls.1.weight"][0] == pytest.approx(1.0)


def test_softmax_methods_have_one_rate() -> None:
    model = later()
    found = settings("mib", model, 1, **{"training.rates.all": 3})
    assert [rate for rate, _ in found.values()] == pytest.approx([0.03] * len(found))


@pytest.mark.parametrize(
    ("name", "part", "known"),
    [("star", "head", "backbone, aspp, auxiliary, old_heads, new_head"), ("mib", "aspp", "all")],
)
def test_a_part_that_there_is_not(name: str, part: str, known: str) -> None:
    given = scenario(method=name, **{f"training.rates.{part}": 2})
    with pytest.raises(UserError) as told:
        METHODS[name].check(given)
    assert str(told.value) == f"training.rates.{part}: no such part of {name}; there are {known}"


@pytest.mark.parametrize("protocol", ["paper", "corrected"])
def test_positive_weights_follow_from_the_labels(protocol: str) -> None:
    made = method("dkd", later(), 1, protocol=protocol, **{"training.pos_weight.later": "auto"})
    generator = torch.Generator().manual_seed(3)
    labels = [torch.randint(0, 5, (1, 9, 9), generator=generator).byte() for _ in range(3)]
    labels[0][0, :4] = 255
    labels[1][labels[1] == 5] = 0
    covered = [[0, 0, 1, 1, 1], [1, 0, 1, 1, 1], [0, 0, 1, 0, 1]]
    batches = [
        {"label": label, "covered": torch.tensor([row]).bool()}
        for label, row in zip(labels, covered, strict=True)
    ]
    made.begin(lambda model: ((None, batch) for batch in batches if model is None))
    for channel in range(1, 6):
        there = lacking = 0
        for label, row in zip(labels, covered, strict=True):
            for value in label.flatten().tolist():
                counts = row[channel - 1] and (protocol == "paper" or value != 255)
                there += bool(counts and value == channel)
                lacking += bool(counts and value != channel)
        expected = min(100.0, max(1.0, (lacking / there) ** 0.5)) if there else 1.0
        assert made._pos_weight[channel] == pytest.approx(expected), channel


@pytest.mark.parametrize(
    ("name", "values", "expected"),
    [
        ("star", {}, 8),
        ("dkd", {}, 1),
        ("star", {"training.pos_weight.later": 3}, 3),
    ],
)
def test_a_method_has_a_positive_weight_of_its_own_at_later_steps(
    name: str, values: dict[str, object], expected: float
) -> None:
    assert method(name, later(), 1, **values)._pos_weight == expected
    assert method(name, first(), 0, **values)._pos_weight == 1


@pytest.mark.parametrize("block_losses", [True, False])
def test_positive_weights_by_themselves_train(tmp_path: Path, block_losses: bool) -> None:
    learned = learn(
        tmp_path,
        "dkd",
        **{
            "training.pos_weight.first": "auto",
            "training.pos_weight.later": "auto",
            "training.epochs.first": 5,
            "training.epochs.later": 10,
            "speed.block_losses": block_losses,
        },
    )
    assert learned.last("mbce") < learned.first("mbce")
