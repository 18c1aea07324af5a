"""How a model learns further classes: as it learned those before, unless that was a bound."""

from pathlib import Path

import pytest
from fixtures.data_sets import make_colours
from step_runs import Run, scenario

from dkd.scenario.data import Data
from dkd.steps import stages
from dkd.steps.step import Step, StepSpec


@pytest.mark.parametrize(
    ("method", "options", "expected"),
    [
        ("dkd", {}, "dkd"),
        ("finetune", {}, "dkd"),
        ("star", {"variant": "basic"}, "star"),
        ("mib", {}, "mib"),
    ],
)
def test_the_teachers_method_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str, options: dict, expected: str
) -> None:
    monkeypatch.setenv("DKD_CACHE", str(tmp_path / "cache"))
    given = {"method": method, "method_options": options, "memory_size": 0}
    run = Run(tmp_path / "root", scenario(**given, **{"training.epochs.first": 1}))
    teacher = run.step(0).uri
    made = stages.prepare_extension(
        teacher,
        ["red"],
        Data(format="folder", root=str(make_colours(tmp_path / "colours"))),
        settle=lambda scenario: scenario,
        root=str(run.root),
        progress=lambda _line: None,
    )
    assert made.scenario.method == expected
    assert made.scenario.method_options == options
    spec = StepSpec(
        scenario=made.scenario,
        task=made.task.steps,
        step=made.step,
        dataset=made.dataset,
        root=str(run.root),
        teacher=teacher,
    )
    assert Step.open(spec).teacher is not None
