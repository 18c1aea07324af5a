"""What MLflow is told of a run: by its own client, into its own store of files."""

from pathlib import Path
from typing import Any

import pytest
import report_samples as samples

from dkd.report import tracking
from dkd.report.model import ArtifactRef


@pytest.fixture
def client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    mlflow = pytest.importorskip("mlflow", reason="the extra tracking is not installed")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    return mlflow.MlflowClient(tracking_uri=(tmp_path / "mlruns").as_uri())


def test_each_step_is_told_once(client: Any, tmp_path: Path) -> None:
    environment = {tracking.TRACKING_URI: (tmp_path / "mlruns").as_uri()}
    result = samples.run("DKD-M")
    first = result.model_copy(update={"steps": result.steps[:1]})
    said: list[str] = []
    for each, finished in ((first, False), (result, False), (result, True)):
        tracking.tell(each, "mine", said.append, finished=finished, environment=environment)
    assert not [line for line in said if line.startswith("warning")], said
    place = client.get_experiment_by_name("dkd").experiment_id
    (run,) = client.search_runs([place])
    assert (run.info.run_name, run.info.status) == ("mine", "FINISHED")
    assert run.data.params["method"] == result.method
    told = client.get_metric_history(run.info.run_id, "mIoU_all")
    scored = {s.step: s.scores.miou_all for s in result.steps if s.scores.miou_all is not None}
    assert [(each.step, each.value) for each in told] == list(scored.items())


def test_a_roots_name_may_hold_quotes(client: Any, tmp_path: Path) -> None:
    environment = {tracking.TRACKING_URI: (tmp_path / "mlruns").as_uri()}
    result = samples.run()
    for root in ("/home/o'brien", "/home/o'brien", '/home/"a"'):
        there = ArtifactRef(uri=f"{root}/checkpoints/c", digest="d")
        steps = [step.model_copy(update={"checkpoint": there}) for step in result.steps]
        said: list[str] = []
        placed = result.model_copy(update={"steps": tuple(steps)})
        tracking.tell(placed, "mine", said.append, finished=True, environment=environment)
        assert not said[0].startswith("warning"), said
    place = client.get_experiment_by_name("dkd").experiment_id
    assert len(client.search_runs([place])) == 2


def test_a_server_that_is_away_costs_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("mlflow", reason="the extra tracking is not installed")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    said: list[str] = []
    nowhere = {tracking.TRACKING_URI: "http://127.0.0.1:9"}
    tracking.tell(samples.run(), "mine", said.append, finished=True, environment=nowhere)
    (line,) = said
    assert line.startswith("warning: MLflow http://127.0.0.1:9 was not told (")
    assert "\n" not in line


def test_nobody_is_told_where_none_is_named() -> None:
    said: list[str] = []
    tracking.tell(samples.run(), "mine", said.append, finished=True, environment={})
    assert said == []
