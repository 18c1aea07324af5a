"""MiB and PLOP: networks with a background channel, from the first step to their evaluation."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from learning import learn
from step_runs import Run, scenario

from dkd.errors import UserError
from dkd.methods.mib import MiB
from dkd.network import checkpoint
from dkd.network.deeplab import build
from dkd.network.prediction import predict
from dkd.scenario.network import Network
from dkd.steps.step import Step

RATES: dict[str, dict[str, Any]] = {
    "mib": {"training.lr.later": 0.02},
    "plop": {"training.lr.later": 0.05, "method_options": {"pod": 0.0005}},
}


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DKD_CACHE", str(tmp_path / "cache"))


@pytest.mark.parametrize("method", ["mib", "plop"])
def test_new_classes_are_learned_and_the_old_ones_kept(tmp_path: Path, method: str) -> None:
    learned = learn(tmp_path, method, **{"training.lr.first": 0.05}, **RATES[method])
    assert learned.iou["blue"] > 0.3
    assert learned.iou["red"] > 0.3
    assert learned.iou["background"] > 0.5
    assert learned.last("ce") < learned.first("ce")


def test_predictions_are_the_likeliest_of_all_channels() -> None:
    model = build(Network(backbone="demo", aspp_channels=8), [2, 1]).eval()
    model.background_channel = True
    features = torch.rand(2, 8, 5, 4)
    with torch.no_grad():
        read = predict(model.logits(features, (5, 4)))
        raw = model._heads(features)
    np.testing.assert_array_equal(read, raw.argmax(1))
    assert set(read.unique().tolist()) > {0}


def test_a_background_channel_learns_and_an_auxiliary_one_leaves_features_alone() -> None:
    for background in (True, False):
        model = build(Network(backbone="demo", aspp_channels=8), [2]).eval()
        model.background_channel = background
        features = torch.rand(1, 8, 2, 2).requires_grad_()
        model._heads(features)[:, 0].sum().backward()
        assert bool(features.grad.any()) == background


def test_the_background_channel_travels_with_the_checkpoint(tmp_path: Path) -> None:
    run = Run(tmp_path / "root", scenario(method="mib", memory_size=0))
    for number in (0, 1):
        fetched = checkpoint.fetch(run.step(number).uri)
        assert fetched.model.background_channel
        assert fetched.description["background_channel"] is True


@pytest.mark.parametrize(("first", "later"), [("dkd", "mib"), ("plop", "dkd"), ("mib", "star")])
def test_a_teacher_of_the_other_kind_is_refused(tmp_path: Path, first: str, later: str) -> None:
    run = Run(tmp_path / "root", scenario(method=first, memory_size=0))
    run.step(0)
    run.scenario = scenario(method=later, memory_size=0)
    with pytest.raises(
        UserError, match=f"was trained by {first} with .*, but method {later} needs"
    ):
        Step.open(run.spec(1))


def test_mib_and_plop_share_their_first_steps_weights(tmp_path: Path) -> None:
    weights = [
        Run(tmp_path / method, scenario(method=method, memory_size=0))
        .step(0)
        .parts["model.safetensors"]
        .sha256
        for method in ("mib", "plop")
    ]
    assert weights[0] == weights[1]


def test_a_new_head_shares_what_was_background() -> None:
    teacher = build(Network(backbone="demo", aspp_channels=8), [2]).eval()
    teacher.background_channel = True
    student = MiB.grow(teacher, 3).eval()
    features = torch.rand(1, 8, 2, 2)
    with torch.no_grad():
        before = teacher._heads(features).softmax(1)
        after = student._heads(features).softmax(1)
    torch.testing.assert_close(after[:, 1:3], before[:, 1:])
    for channel in (0, 3, 4, 5):
        torch.testing.assert_close(after[:, channel], before[:, 0] / 4)
