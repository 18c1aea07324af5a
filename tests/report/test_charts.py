import itertools
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dkd.report import charts
from dkd.report.charts import PlotArea, Point, Series

FRAME = PlotArea(left=10, top=20, width=200, height=100, x0=0, x1=4, y0=0, y1=50)


def test_a_frame_maps_values_to_the_drawing() -> None:
    assert (FRAME.x(0), FRAME.x(1), FRAME.x(4)) == (10, 60, 210)
    # The drawing's y axis points down.
    assert (FRAME.y(0), FRAME.y(25), FRAME.y(50)) == (120, 70, 20)


def test_a_frame_clips_and_survives_a_single_abscissa() -> None:
    assert FRAME.y(70) == 20
    assert PlotArea(0, 0, 100, 10, 3, 3, 0, 1).x(3) == 50


def test_a_logarithmic_frame_puts_a_decade_halfway_of_two() -> None:
    frame = PlotArea(0, 0, 10, 100, 0, 1, 0.01, 1, log=True)
    assert frame.y(0.1) == pytest.approx(50)
    assert frame.y(0.0) == 100


def numbers(path: str) -> list[tuple[float, float]]:
    return [(float(x), float(y)) for x, y in re.findall(r"([\d.]+) ([\d.]+)", path)]


def test_score_chart_draws_its_values_where_they_belong() -> None:
    line = Series("DKD", 0, (Point(0, 80, title="step 0: 80"), Point(2, 40)))
    svg = charts.score_chart([line], (0, 1, 2), 80, "scores", size=(352, 146))
    # The plot spans 34..234 and 10..110: margins of 34 and 118, 10 and 36.
    found = re.search(r'class="line s0" d="([^"]*)"', svg)
    assert found
    assert numbers(found[1]) == [(34, 10), (234, 60)]
    assert "step 0: 80" in svg
    assert '<tspan class="v">40.0</tspan> DKD' in svg


def test_the_bound_spans_the_chart_at_its_height() -> None:
    bound = Series("joint", None, (Point(0, 40),))
    svg = charts.score_chart([bound], (0, 1, 2), 80, "scores", size=(352, 146))
    assert 'class="line bound" d="M34 60H234"' in svg


def test_a_deviation_is_drawn_as_a_band() -> None:
    line = Series("DKD", 1, (Point(0, 40, 20), Point(1, 40, 0)))
    svg = charts.score_chart([line], (0, 1), 80, "scores", size=(352, 146))
    found = re.search(r'class="band s1" d="([^"]*)z"', svg)
    assert found
    assert numbers(found[1]) == [(34, 35), (234, 60), (234, 60), (34, 85)]


def test_a_line_without_points_is_left_out() -> None:
    svg = charts.score_chart([Series("DKD", 0, ())], (0, 1), 80, "scores")
    assert "DKD" not in svg


def test_loss_chart_is_logarithmic() -> None:
    line = Series("mBCE", 1, (Point(0, 1.0), Point(10, 0.1), Point(20, 0.01)))
    svg = charts.loss_chart([line], "losses")
    found = re.search(r'class="line s1" d="([^"]*)"', svg)
    assert found
    (x0, y0), (x1, y1), (x2, y2) = numbers(found[1])
    assert x1 - x0 == x2 - x1
    assert y1 - y0 == pytest.approx(y2 - y1, abs=0.11)


def test_loss_chart_survives_values_that_are_not_positive() -> None:
    line = Series("kd", 2, (Point(1, 0.0), Point(2, 0.0)))
    assert "nan" not in charts.loss_chart([line], "losses")


def test_chart_texts_are_escaped() -> None:
    line = Series("<i>&", 0, (Point(0, 1, title="<b>"), Point(1, 2)))
    svg = charts.score_chart([line], (0, 1), 10, '"><script>')
    assert "<i>" not in svg
    assert "<b>" not in svg
    assert "<script>" not in svg


@pytest.mark.parametrize(
    ("highest", "upper"), [(0, 2), (3.1, 4), (10, 10), (34.4, 40), (81.2, 90), (99.9, 100)]
)
def test_ceiling(highest: float, upper: float) -> None:
    assert charts.ceiling(highest) == upper


def test_ticks_are_few_and_even() -> None:
    assert charts.ticks(90) == (0, 20, 40, 60, 80)
    assert charts.ticks(40) == (0, 10, 20, 30, 40)
    assert charts.ticks(4) == (0, 1, 2, 3, 4)
    assert charts.log_ticks(0.04, 1.1) == pytest.approx((0.05, 0.1, 0.2, 0.5, 1))
    assert charts.log_ticks(0.001, 10) == pytest.approx((0.001, 0.01, 0.1, 1, 10))


def test_number_has_at_most_one_decimal() -> None:
    assert [charts.number(v) for v in (2.0, 2.25, -0.01)] == ["2", "2.2", "0"]


def test_labels_move_apart_as_little_as_needed() -> None:
    assert charts.spread([50, 52, 10], 14, 0, 100) == [50, 64, 10]
    assert charts.spread([95, 98], 14, 0, 100) == [86, 100]


@given(st.lists(st.floats(0, 200), min_size=1, max_size=12))
def test_spread_labels_keep_order_distance_and_range(wanted: list[float]) -> None:
    placed = charts.spread(wanted, 14, 0, 200)
    distance = min(14, 200 / max(len(wanted) - 1, 1))
    order = sorted(range(len(wanted)), key=lambda i: (wanted[i], i))
    positions = [placed[i] for i in order]
    assert all(b - a >= distance - 1e-6 for a, b in itertools.pairwise(positions))
    assert positions[0] >= -1e-6
    assert positions[-1] <= 200 + 1e-6


def test_shortened() -> None:
    assert charts.shortened("pottedplant", 11) == "pottedplant"
    assert charts.shortened("a long label", 7) == "a long…"
