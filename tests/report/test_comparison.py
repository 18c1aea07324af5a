"""Runs side by side: variants, their seeds, and what they are compared by."""

import pytest
import report_samples as samples

from dkd.errors import UserError
from dkd.report.comparison import ALL, Statistic, compare
from dkd.report.tables import table


def test_a_variant_keeps_its_place_and_its_runs_their_seeds_order() -> None:
    comparison = compare([samples.joint_run(), samples.dkd_run(2), samples.dkd_run(1)])
    assert [v.label for v in comparison.variants] == ["joint", "DKD"]
    assert [run.seed for run in comparison.variants[1].runs] == [1, 2]
    assert comparison.best.label == "DKD"
    assert comparison.steps == (0, 1)


def test_statistic_leaves_out_what_is_missing() -> None:
    assert Statistic.of([None, 4.0]) == Statistic(4.0, None, 1)
    assert Statistic.of([None]) is None


def test_variant_scores_by_step() -> None:
    variant = compare([samples.dkd_run(1, 58.0), samples.dkd_run(2, 62.0)]).variants[0]
    score = variant.score(ALL, 1)
    assert score is not None
    assert (score.mean, score.count) == (60.0, 2)
    assert variant.iou(2, 0) is None


def test_runs_of_different_tasks_are_refused() -> None:
    other = samples.run("DKD-M", (("cat",), ("horse",)))
    with pytest.raises(UserError, match="variant 'DKD-M' has other classes or steps than 'DKD'"):
        table([samples.dkd_run(), other])


def test_no_run_is_refused() -> None:
    with pytest.raises(UserError, match="no run's result given"):
        table([])
