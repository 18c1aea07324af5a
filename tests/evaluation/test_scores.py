"""Scores of a confusion matrix, against the released program's figures."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from dkd.evaluation.confusion import ConfusionMatrix
from dkd.evaluation.scores import ConfusionScores, scores


@pytest.mark.parametrize("case", ["case_a", "case_b"])
@pytest.mark.parametrize("absent_classes_count", [True, False])
def test_scores_are_the_released_programs(
    reference: Path, case: str, absent_classes_count: bool
) -> None:
    golden = json.loads((reference / "metric_golden.json").read_text())[case]
    truth = torch.tensor(golden["ground_truth"], dtype=torch.uint8)
    prediction = torch.tensor(golden["prediction"], dtype=torch.uint8)
    counts = len(golden["base_classes"]), len(golden["novel_classes"])
    matrix = ConfusionMatrix(1 + sum(counts))
    for one, other in zip(prediction, truth, strict=True):
        matrix.add(one[None], other[None])
    found = scores(matrix.counts.numpy(), counts, absent_classes_count)
    assert found.iou == pytest.approx(golden["miou_by_class"], abs=1e-6)
    for ours, theirs in {
        "miou_all": "miou_all",
        "miou_old": "miou_old",
        "miou_new": "miou_new",
        "hiou": "hiou",
        "pixel_accuracy": "pixel_accuracy",
        "class_accuracy": "class_accuracy",
    }.items():
        assert getattr(found, ours) == pytest.approx(golden[theirs], abs=1e-6), ours


def test_the_first_step_has_no_new_classes() -> None:
    found = scores([[5, 1], [2, 4]], [1], absent_classes_count=True)
    assert found.miou_old == found.miou_all == pytest.approx(100 * (5 / 8 + 4 / 7) / 2)
    assert found.miou_new is None
    assert found.hiou is None


# Classes 0 and 1 as before; class 2 has neither a true nor a predicted pixel.
ABSENT = [[5, 1, 0], [2, 4, 0], [0, 0, 0]]


def test_absent_classes_are_left_out_or_count_as_zero() -> None:
    left_out = scores(ABSENT, [1, 1], absent_classes_count=False)
    assert left_out.iou == pytest.approx((62.5, 400 / 7, None))
    assert left_out.miou_all == left_out.miou_old
    assert (left_out.miou_new, left_out.hiou) == (None, None)
    counted = scores(ABSENT, [1, 1], absent_classes_count=True)
    assert counted.iou == pytest.approx((62.5, 400 / 7, 0.0))
    assert counted.miou_all == pytest.approx((62.5 + 400 / 7) / 3)
    assert (counted.miou_new, counted.hiou) == (0.0, 0.0)


def test_a_class_that_is_only_predicted_is_not_absent() -> None:
    found = scores([[5, 1], [0, 0]], [1], absent_classes_count=False)
    assert found.iou[1] == 0.0
    assert found.class_accuracy == pytest.approx(500 / 6)


def test_nothing_but_wrong_pixels() -> None:
    found = scores([[0, 3, 0], [3, 0, 0], [0, 1, 0]], [1, 1], absent_classes_count=False)
    assert (found.miou_all, found.hiou, found.pixel_accuracy) == (0.0, 0.0, 0.0)


def test_no_pixel_at_all() -> None:
    nothing = scores(np.zeros((2, 2)), [1], absent_classes_count=False)
    assert nothing == ConfusionScores((None, None), None, None, None, None, None, None)


def test_a_matrix_of_the_wrong_size_is_refused() -> None:
    with pytest.raises(ValueError, match="1 \\+ 3 classes"):
        scores(np.zeros((3, 3)), [2, 1], absent_classes_count=False)


def test_counts_beyond_float_precision_stay_exact() -> None:
    large = 2**53
    found = scores([[large + 1, 0], [0, 1]], [1], absent_classes_count=False)
    assert found.iou == (100.0, 100.0)


def test_scores_need_no_torch() -> None:
    code = "import sys, dkd.evaluation.scores; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
