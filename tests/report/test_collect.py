"""The page that Kubeflow Pipelines shows of a step."""

from pathlib import Path

import pytest
import step_runs

from dkd.report import collect
from dkd.storage import artifacts


def test_a_steps_page_shows_the_steps_before_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DKD_CACHE", str(tmp_path / "cache"))
    run = step_runs.Run(
        tmp_path / "root",
        step_runs.scenario(**{"training.epochs.first": 1, "training.epochs.later": 1}),
    )
    for number in (0, 1):
        spec = run.spec(number)
        checkpoint = run.step(number)
    evaluation = artifacts.load(run.evaluation)
    page = collect.step_page(
        spec.model_copy(update={"checkpoint": checkpoint.uri}), evaluation, "test"
    )
    assert page.count("<html") == 1
    for name in ("zero", "four", "five"):
        assert name in page
    assert "Step 0" in page
    assert "Step 1" in page
    assert len(page) < 2_000_000
    events = run.root / "runs/test/tensorboard/step-1/events.out.tfevents.dkd"
    assert b"loss/total" in events.read_bytes()
