import re

import pytest
import report_samples as samples

from dkd.report import matrices
from dkd.report.comparison import compare
from dkd.report.model import Scores, StepResult

CHANNELS = ("background", "cat", "cow")
STEP = StepResult(
    step=1,
    new_classes=("cow",),
    scores=Scores(iou=(90, 50, None)),
    confusion=((90, 10, 0), (30, 60, 10), (0, 0, 0)),
)


def test_shares_are_percent_of_the_true_class() -> None:
    assert matrices.shares(STEP.confusion).tolist() == [[90, 10, 0], [30, 60, 10], [0, 0, 0]]


def test_top_confusions_leave_out_what_is_right() -> None:
    found = matrices.top_confusions(STEP, CHANNELS, most=5)
    assert [(c.truth, c.prediction, c.pixels, c.share) for c in found] == [
        ("cat", "background", 30, pytest.approx(30)),
        ("background", "cat", 10, pytest.approx(10)),
        ("cat", "cow", 10, pytest.approx(10)),
    ]
    assert len(matrices.top_confusions(STEP, CHANNELS, most=1)) == 1


def test_confusion_chart_has_a_cell_per_pair_with_its_share() -> None:
    svg = matrices.confusion_chart(STEP, CHANNELS, "confusion")
    assert len(re.findall("<rect ", svg)) == 9
    assert "cat → background: 30.0 %" in svg
    assert '<text class="in hot"' in svg


def test_cells_of_the_class_map_are_the_scores() -> None:
    run = samples.scored_run("DKD", [[90, 70], [88, 50.4, 45]])
    other = samples.scored_run("joint", [[92, 80, None]])
    rows = matrices.class_map(compare([run, other])).rows
    assert [(row.channel, row.step, row.first) for row in rows] == [
        (0, 0, True),
        (1, 0, True),
        (2, 1, True),
    ]
    cat, cow = rows[1], rows[2]
    assert [cell.value for cell in cat.cells[0]] == [70, 50.4]
    assert cat.changes == (pytest.approx(-19.6), None)
    assert [(cell.value, cell.known) for cell in cow.cells[0]] == [(None, False), (45, True)]
    assert [(cell.value, cell.known) for cell in cow.cells[1]] == [(None, True)]


def test_the_class_map_turns_dense_with_many_classes() -> None:
    names = tuple(f"class {i}" for i in range(150))
    assert matrices.class_map(compare([samples.run("DKD", (names,), images=0)])).dense
    assert not matrices.class_map(compare([samples.run("DKD")])).dense
