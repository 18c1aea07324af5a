"""What a command's options plan to run."""

import pytest

from dkd.errors import UserError
from dkd.kubeflow import local_runner
from dkd.scenario import catalogue

DEMO = catalogue.scenario("demo", {})


def names(*variants: str, seeds: tuple[int, ...] = (), **grid: list[object]) -> list[str]:
    planned = local_runner.plan(DEMO, variants, False, seeds, None, grid)
    return [each.name for each in planned]


def test_variants_times_grid_times_seeds() -> None:
    assert names() == ["demo"]
    assert names("DKD", "DKD-M", seeds=(1, 2)) == [
        f"demo-{variant}-seed{seed}" for variant in ("dkd", "dkd-m") for seed in (1, 2)
    ]
    assert names("DKD-M", seeds=(3,), method=["dkd", "star"], memory_size=[5]) == [
        f"demo-dkd-m-{method}-memory-size-5-seed3" for method in ("dkd", "star")
    ]


def test_a_bad_combination_is_told_before_anything_runs() -> None:
    with pytest.raises(UserError, match="method: 'nothing' is none of dkd, star"):
        names(method=["dkd", "nothing"])
