"""Grids of values, as they are written and as scenarios."""

import pytest

from dkd.errors import UserError
from dkd.scenario import catalogue
from dkd.scenario.grid import combinations, parse_grid

DEMO = catalogue.scenario("demo", {}).override({"variants": {}})


def test_values_are_yaml_with_commas() -> None:
    found = parse_grid(["method=dkd,star", "training.lr.later=1e-4,2e-4", "losses={kd: 0},{}"])
    assert found == {
        "method": ["dkd", "star"],
        "training.lr.later": [1e-4, 2e-4],
        "losses": [{"kd": 0}, {}],
    }


def test_every_combination_and_what_it_is_called() -> None:
    grid = {"method": ["dkd", "star"], "training.lr.later": [0.001, 0.002], "memory_size": [0]}
    found = combinations(DEMO.override({"label": "mine"}), grid)
    assert [one.label for _, one in found] == [
        f"mine, {method}, training.lr.later={rate}, memory_size=0"
        for method in ("dkd", "star")
        for rate in (0.001, 0.002)
    ]
    assert [told for told, _ in found] == [one.label.removeprefix("mine, ") for _, one in found]
    assert [(one.method, one.training.lr.later) for _, one in found] == [
        ("dkd", 0.001),
        ("dkd", 0.002),
        ("star", 0.001),
        ("star", 0.002),
    ]


def test_no_grid_is_the_scenario_itself() -> None:
    assert combinations(DEMO, {}) == [("", DEMO)]


@pytest.mark.parametrize(
    ("item", "message"),
    [
        ("method", "--grid method: write FIELD=VALUE"),
        ("method=", "--grid method=: write values with commas"),
        ("method=dkd,dkd", "--grid method=dkd,dkd: a value appears twice"),
        ("method=dkd]", r"--grid method: .*the value: '\[dkd\]\]'"),
        ("seed=1,2", "--grid seed: use --seeds"),
        ("task=[[1]],[[2]]", "--grid task: a report compares runs of one task"),
    ],
)
def test_what_is_no_grid(item: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as told:
        parse_grid([item])
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    ("grid", "message"),
    [
        ({"no.field": [1]}, "no.field: no such field"),
        ({"training.crop": [64, "x"]}, r"training\.crop: "),
        ({"memory_size": list(range(1001))}, "--grid: 1001 combinations; give at most 1000"),
    ],
)
def test_what_cannot_be_combined(grid: dict[str, list[object]], message: str) -> None:
    with pytest.raises(UserError, match=message):
        combinations(DEMO, grid)
