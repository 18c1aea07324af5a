import pytest
import report_samples as samples

from dkd.errors import UserError
from dkd.report.comparison import ALL, Statistic, compare
from dkd.report.model import RunResult
from dkd.report.tables import markdown_table, table


def dkd(seed: int = 1, overall: float = 60.0) -> RunResult:
    run = samples.scored_run(
        "DKD",
        [[90, 70], [88, 50, 45]],
        seed=seed,
        miou_old=69,
        miou_new=45,
        miou_all=overall,
        hiou=54.47,
    )
    first = run.steps[0]
    first = first.model_copy(update={"scores": first.scores.model_copy(update={"miou_all": 80})})
    return run.model_copy(update={"steps": (first, run.steps[1])})


def joint() -> RunResult:
    return samples.scored_run("joint", [[92, 80, 75]], miou_old=86, miou_new=75, miou_all=82.33)


def test_text_table() -> None:
    assert table([dkd(), joint()]) == (
        "                              after step 1 | mIoU_all after step\n"
        "method  mIoU_old  mIoU_new  mIoU_all  hIoU |    0     1\n"
        "DKD         69.0      45.0      60.0  54.5 | 80.0  60.0\n"
        "joint       86.0      75.0      82.3     – |    –  82.3\n"
    )


def test_text_table_of_one_step_has_no_history() -> None:
    run = samples.scored_run("DKD", [[90, 70]], task=(("cat",),), miou_all=80)
    assert table([run]) == (
        "                              after step 0\n"
        "method  mIoU_old  mIoU_new  mIoU_all  hIoU\n"
        "DKD            –         –      80.0     –\n"
    )


def test_text_table_leaves_the_history_out_where_it_does_not_fit() -> None:
    task = tuple((f"class {i}",) for i in range(20))
    text = table([samples.run("DKD", task, images=0)])
    assert max(map(len, text.splitlines())) <= 100
    assert "|" not in text


def test_text_table_does_not_let_a_label_move_the_cursor() -> None:
    run = dkd().model_copy(update={"variant": "a\x1b[2Jb\n"})
    assert "a?[2Jb?" in table([run])


def test_wide_characters_take_two_columns() -> None:
    run = dkd().model_copy(update={"variant": "蒸留"})
    head, row = table([run, joint()]).splitlines()[1:3]
    assert head.index("mIoU_old") == row.index("    69.0") + 2


def test_seeds_of_a_variant_are_mean_and_sample_deviation() -> None:
    text = table([dkd(1, 58.0), dkd(2, 62.0)])
    # mean 60, sample standard deviation sqrt(((-2)^2 + 2^2) / 1)
    assert "60.0 ± 2.8" in text
    assert "69.0 ± 0.0" in text


def test_markdown() -> None:
    assert markdown_table([dkd(), joint()]) == (
        "| method | mIoU_old | mIoU_new | mIoU_all | hIoU |\n"
        "| --- | ---: | ---: | ---: | ---: |\n"
        "| DKD | 69.0 | 45.0 | 60.0 | 54.5 |\n"
        "| joint | 86.0 | 75.0 | 82.3 | – |\n"
    )


def test_markdown_escapes_labels() -> None:
    run = dkd().model_copy(update={"variant": "a|b<c>\n`d`"})
    assert "| a\\|b&lt;c>?\\`d\\` |" in markdown_table([run])


def test_a_variant_keeps_its_place_and_its_runs_their_seeds_order() -> None:
    comparison = compare([joint(), dkd(2), dkd(1)])
    assert [v.label for v in comparison.variants] == ["joint", "DKD"]
    assert [run.seed for run in comparison.variants[1].runs] == [1, 2]
    assert comparison.best.label == "DKD"
    assert comparison.steps == (0, 1)


def test_statistic_leaves_out_what_is_missing() -> None:
    assert Statistic.of([None, 4.0]) == Statistic(4.0, None, 1)
    assert Statistic.of([None]) is None


def test_variant_scores_by_step() -> None:
    variant = compare([dkd(1, 58.0), dkd(2, 62.0)]).variants[0]
    score = variant.score(ALL, 1)
    assert score is not None
    assert (score.mean, score.count) == (60.0, 2)
    assert variant.iou(2, 0) is None


def test_runs_of_different_tasks_are_refused() -> None:
    other = samples.run("DKD-M", (("cat",), ("horse",)))
    with pytest.raises(UserError, match="variant 'DKD-M' has other classes or steps than 'DKD'"):
        table([dkd(), other])


def test_no_run_is_refused() -> None:
    with pytest.raises(UserError, match="no run's result given"):
        table([])
