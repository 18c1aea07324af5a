"""How a model learns further classes, and whose a run's name is."""

from pathlib import Path

import pytest
from fixtures.data_sets import make_colours
from fixtures.scenarios import DOCUMENT
from step_runs import Run, scenario

from dkd.errors import UserError
from dkd.scenario.data import Data
from dkd.scenario.schema import parse
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


@pytest.mark.parametrize(("method", "expected"), [("star", 8), ("dkd", 1)])
def test_what_is_kept_of_a_scenario_says_what_the_method_does(method: str, expected: int) -> None:
    """So a model goes on alike after the program's defaults change."""
    kept = stages.result_fields(scenario(method=method))
    assert kept["training"]["pos_weight"] == {"first": 1, "later": expected}
    again = stages.result_fields(parse({**kept, "method": "dkd"}, "x"))
    assert again["training"]["pos_weight"] == kept["training"]["pos_weight"]


# ---- whose a run's name is


def test_a_run_that_an_older_program_began_goes_on(tmp_path: Path) -> None:
    """What it wrote of the scenario lacks the fields that there are since."""
    claim = tmp_path / "runs" / "mine" / "scenario.json"
    claim.parent.mkdir(parents=True)
    claim.write_text(Path(__file__).with_name("claim_of_0.1.json").read_text())
    same = parse({**DOCUMENT, "method": "dkd"}, "x")
    assert not stages.claim_run(str(tmp_path), "mine", same)
    unnamed = 'method: "dkd" before, "star" now; training.pos_weight.later: 1.0 before, 8.0 now'
    with pytest.raises(UserError, match=unnamed):
        stages.claim_run(str(tmp_path), "mine", parse(DOCUMENT, "x"))
    for field, value, message in (
        ("data.unlabelled", "void", 'data.unlabelled: "background" before, "void" now'),
        ("training.rates.new_head", 3.0, r"training.rates.new_head: null before, 3.0 now"),
        ("network.output_stride", 8, "network.output_stride: null before, 8 now"),
    ):
        with pytest.raises(UserError, match=message):
            stages.claim_run(str(tmp_path), "mine", same.override({field: value}))


def test_a_claim_that_no_longer_reads_is_anothers(tmp_path: Path) -> None:
    claim = tmp_path / "runs" / "mine" / "scenario.json"
    claim.parent.mkdir(parents=True)
    claim.write_text('{"name": "pets", "epochs": 3}')
    with pytest.raises(UserError, match="'mine' exists with another scenario"):
        stages.claim_run(str(tmp_path), "mine", parse(DOCUMENT, "x"))


def test_a_model_with_a_memory_is_scored_on_data_that_label_new_classes_alone(
    tmp_path: Path,
) -> None:
    """It was refused: what its memory would be there was looked for, too."""
    data = {"format": "pictograms", "pictograms": {"train": 20, "validation": 10, "size": 32}}
    task = [["cat", "fish"]]
    run = Run(tmp_path, scenario(data=data, task=task, **{"training.epochs.first": 1}))
    model = run.step(0)
    new = {**data["pictograms"], "new_class": "umbrella"}
    other = run.scenario.override({"data.pictograms": new})
    spec = run.spec(0).model_copy(
        update={
            "dataset": stages.prepare(
                other.override({"task": [["umbrella"]]}), str(tmp_path), lambda _line: None
            ).dataset,
            "checkpoint": model.uri,
            "teacher": "",
            "memory": "",
        }
    )
    assert stages.missing_stages(Step.open(spec), ("evaluate",)) == ("evaluate",)
