"""Confidence intervals, beside draws that are made and scored one at a time."""

import subprocess
import sys

import numpy as np
import pytest
from scipy import stats

from dkd.evaluation import intervals as module
from dkd.evaluation.intervals import intervals, losses, tail
from dkd.evaluation.scores import scores


def images(seed: int, number: int, channels: int, skill: float) -> np.ndarray:
    """Confusion matrices of images that hold background and one other class."""
    rng = np.random.default_rng(seed)
    found = np.zeros((number, channels, channels), np.int64)
    for image in found:
        for truth in (0, rng.integers(1, channels)):
            pixels = rng.integers(20, 200)
            right = rng.binomial(pixels, min(1, max(0, rng.normal(skill, 0.15))))
            image[truth, truth] += right
            image[truth, rng.integers(0, channels)] += pixels - right
    return found


def table(matrices: np.ndarray) -> np.ndarray:
    right = matrices.diagonal(axis1=1, axis2=2)
    return np.stack([right, matrices.sum(2), matrices.sum(1)], 1)


def draws(number: int) -> np.ndarray:
    return np.random.default_rng(module._SEED).integers(0, number, (module.DRAWS, number))


@pytest.mark.parametrize("absent", [True, False])
def test_the_ends_are_quantiles_of_draws_scored_one_by_one(
    absent: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "DRAWS", 150)
    matrices = images(1, 12, 4, 0.7)
    found = intervals(table(matrices), [2, 1], absent)
    scored = [scores(matrices[chosen].sum(0), [2, 1], absent) for chosen in draws(12)]
    whole = [tail(12), 1 - tail(12)]
    for name in ("miou_all", "miou_old", "miou_new", "hiou", "pixel_accuracy"):
        values = [v for each in scored if (v := getattr(each, name)) is not None]
        assert getattr(found, name) == pytest.approx(np.quantile(values, whole), abs=1e-5), name
    held = (matrices.sum(2) > 0).sum(0)
    assert found.images == tuple(held)
    for channel in range(4):
        values = [v for each in scored if (v := each.iou[channel]) is not None]
        ends = [tail(held[channel]), 1 - tail(held[channel])]
        assert found.iou[channel] == pytest.approx(np.quantile(values, ends), abs=1e-5)


def test_losses_are_of_both_models_on_the_same_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "DRAWS", 150)
    before, after = images(1, 9, 3, 0.8), images(1, 12, 4, 0.6)
    among = [0, 1, 3, 4, 5, 7, 8, 9, 11]
    found = losses(table(before), table(after), among, absent_classes_count=True)
    place = {image: row for row, image in enumerate(among)}
    lost = []
    for chosen in draws(12):
        was = sum((before[place[i]] for i in chosen if i in place), np.zeros((3, 3), int))
        old = scores(was, [2], True).iou
        new = scores(after[chosen].sum(0), [3], True).iou[:3]
        lost.append([a - b for a, b in zip(old, new, strict=True)])
    ends = [tail(12), 1 - tail(12)]
    assert found.mean == pytest.approx(np.quantile(np.mean(lost, 1), ends), abs=1e-5)
    held = (after.sum(2) > 0).sum(0)
    for channel in range(3):
        ends = [tail(held[channel]), 1 - tail(held[channel])]
        expected = np.quantile([row[channel] for row in lost], ends)
        assert found.by_channel[channel] == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("number", [5, 6, 10, 50, 1449])
def test_how_far_out_the_ends_lie(number: int) -> None:
    student = stats.t.ppf(0.975, number - 1)
    expected = stats.norm.cdf(-np.sqrt(number / (number - 1)) * student)
    assert tail(number) == pytest.approx(expected, rel=0.04)


def test_twice_the_same_and_an_image_alone_says_nothing() -> None:
    one = table(images(3, 1, 3, 0.7))
    found = intervals(one, [2], absent_classes_count=False)
    assert found == intervals(one, [2], absent_classes_count=False)
    assert found.iou[0] == found.miou_all == (0.0, 100.0)
    assert None in found.iou  # of the class that the image neither holds nor shows
    assert losses(one, one, [0], False).mean == (-100.0, 100.0)


def test_more_images_of_the_same_kind_narrow_it() -> None:
    def width(number: int) -> float:
        low, high = intervals(table(images(5, number, 3, 0.7)), [2], True).miou_all or (0, 0)
        return high - low

    assert 1.6 < width(20) / width(80) < 2.9


@pytest.mark.parametrize("number", [8, 40])
def test_the_interval_holds_the_truth_as_often_as_it_says(
    number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "DRAWS", 300)
    everything = images(7, 4000, 3, 0.7)
    truth = scores(everything.sum(0), [2], False).miou_all
    assert truth is not None
    rng = np.random.default_rng(8)
    held = 0
    for _ in range(200):
        sample = everything[rng.integers(0, 4000, number)]
        low, high = intervals(table(sample), [2], False).miou_all or (0, 0)
        held += low <= truth <= high
    assert 0.86 < held / 200 < 0.99  # 0.92 and 0.96 of many


def test_intervals_need_no_torch() -> None:
    code = "import sys, dkd.evaluation.intervals; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
