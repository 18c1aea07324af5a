"""From artifacts to a run's result and pages."""

from pathlib import Path

import numpy as np
import pytest
import step_runs
from PIL import Image

from dkd.report import collect
from dkd.report.gate import failed, verdict
from dkd.report.tables import markdown_table, table
from dkd.scenario.data import Data
from dkd.steps import stages
from dkd.steps.step import Step, StepSpec
from dkd.storage import artifacts
from dkd.worker.job import StepJob


def test_a_steps_page_shows_the_steps_before_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DKD_CACHE", str(tmp_path / "cache"))
    run = step_runs.Run(
        tmp_path / "root",
        step_runs.scenario(
            **{
                "training.epochs.first": 1,
                "training.epochs.later": 1,
                "gate.any_class_may_lose_at_most": 100,
                "gate.new_classes_at_least": 100,
            }
        ),
    )
    for number in (0, 1):
        spec = run.spec(number)
        checkpoint = run.step(number)
    evaluation = artifacts.load(run.evaluation)
    result = collect.so_far(
        spec.model_copy(update={"checkpoint": checkpoint.uri}), evaluation, "test"
    )
    first, second = (step.gate for step in result.steps)
    assert [check.what for check in first] == ["zero", "one", "two", "three"]
    assert {check.what for check in second[:-2]} == {
        f"{name} lost" for name in ("background", "zero", "one", "two", "three")
    }
    assert verdict(second).startswith("Gate: failed, ")
    losses = [check for check in second if check.what.endswith(" lost")]
    assert all(c.interval and c.interval[0] <= c.figure <= c.interval[1] for c in losses)
    scored = result.steps[1].scores
    assert scored.intervals is not None
    for iou, ends in zip(scored.iou, scored.intervals.iou, strict=True):
        assert ends is not None
        assert ends[0] - 0.1 <= iou <= ends[1] + 0.1
    by_image = collect.by_image(evaluation)
    assert by_image is not None
    whole = np.array(result.steps[1].confusion)
    expected = [whole.diagonal(), whole.sum(1), whole.sum(0)]
    np.testing.assert_array_equal(by_image.sum(0), expected)
    page = collect.page([result])
    assert "<h3>Gate</h3>" in page
    assert "<h3>Every class, and how sure that is" in page
    assert page.count("<td>failed</td>") == len(failed(first)) + len(failed(second))
    assert page.count("<html") == 1
    for name in ("zero", "four", "five"):
        assert name in page
    assert "Step 0" in page
    assert "Step 1" in page
    assert len(page) < 2_000_000
    events = run.root / "runs/test/tensorboard/step-1/events.out.tfevents.dkd"
    assert b"loss/total" in events.read_bytes()


def test_new_data_whose_validation_shows_no_known_class(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: Path
) -> None:
    """Images of the new class to learn from, none set aside: the everyday extension."""
    monkeypatch.setenv("DKD_CACHE", str(tmp_path / "cache"))
    for mask in (folder / "masks/validation").iterdir():
        Image.fromarray(np.zeros_like(np.asarray(Image.open(mask)))).save(mask)
    one = {"training.epochs.first": 1, "training.epochs.later": 1, "memory_size": 4}
    run = step_runs.Run(tmp_path / "root", step_runs.scenario(**one))
    teacher = run.step(0)
    extension = stages.prepare_extension(
        teacher.uri,
        ["cat"],
        Data(format="folder", root=str(folder)),
        settle=lambda scenario: scenario,
        root=str(run.root),
        progress=lambda _line: None,
    )
    spec = StepSpec(
        scenario=extension.scenario,
        task=extension.task.steps,
        step=extension.step,
        dataset=extension.dataset,
        root=str(run.root),
        teacher=teacher.uri,
    )
    job = StepJob(spec, "wider", step_runs.ALONE)
    job.say = lambda _line: None
    job.perform("train")
    job.perform("memory")
    made = artifacts.load(job.step.checkpoint_uri)
    known = spec.model_copy(update={"checkpoint": made.uri})
    assert Step.open(known).stages == ("train", "memory")
    result = collect.gather(
        extension.scenario,
        extension.task,
        extension.dataset,
        "wider",
        [teacher.uri, made.uri],
        ["", ""],
        ["", job.step.memory_uri(made)],
    )
    assert [step.checkpoint.uri for step in result.steps if step.checkpoint] == [
        teacher.uri,
        made.uri,
    ]
    assert result.steps[-1].scores.iou == (None,) * 6  # background, four digits, cat
    assert result.steps[-1].exemplars
    assert len(set(result.colours)) == 6
    assert result.from_json(result.to_json()) == result
    page = collect.page([result])
    assert "Nothing was scored: no validation image" in page
    assert made.uri in page
    assert table([result]).splitlines()[-1].split()[:2] == ["dkd", "–"]
    assert "| – |" in markdown_table([result])
