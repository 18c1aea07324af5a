"""What Prometheus is told of a training, asked over HTTP as it asks."""

import time
import urllib.request
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families
from step_runs import ALONE, Run, scenario

from dkd.errors import UserError
from dkd.training import prometheus
from dkd.training.prometheus import TrainingMetrics
from dkd.worker.job import StepJob


def asked(port: int) -> dict[str, float]:
    """Every sample by name and last label, e.g. ``dkd_training_loss total``."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
        text = answer.read().decode()
    found = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if not sample.name.endswith("_created"):
                assert (sample.labels.pop("run"), sample.labels.pop("step")) == ("r", "0")
                found[" ".join([sample.name, *sample.labels.values()])] = sample.value
    return found


def test_a_training_is_told_as_it_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DKD_CACHE", str(tmp_path / "cache"))
    small = {"data.digits.train": 30, "training.save_interval": 0.001, "training.batch_size": 10}
    run = Run(tmp_path / "root", scenario(**small))
    metrics = TrainingMetrics("r", 0)
    port = metrics.serve(0)
    began = time.time()
    try:
        job = StepJob(run.spec(0), "r", ALONE, metrics)
        job.perform("train")
        told = asked(port)
    finally:
        metrics.close()
    total = told["dkd_training_iterations"]
    assert total > 1
    assert told["dkd_training_iteration"] == total
    assert told["dkd_training_images_total"] == 10 * total
    assert 0 < told["dkd_training_data_wait_seconds_total"] < told["dkd_training_seconds_total"]
    assert told["dkd_training_seconds_total"] < time.time() - began
    assert began <= told["dkd_training_last_save_timestamp_seconds"] <= time.time()
    curve = run_curve(run)
    losses = {term: value for term, value in curve[-1].items() if term != "iteration"}
    assert {"mbce", "total"} <= losses.keys()
    assert {term: told[f"dkd_training_loss {term}"] for term in losses} == losses


def run_curve(run: Run) -> list[dict[str, float]]:
    from dkd.storage import artifacts

    uri = run.job(0).step.checkpoint_uri
    curve: list[dict[str, float]] = artifacts.load(uri).metadata["curve"]
    return curve


def test_a_laptop_has_no_port() -> None:
    assert prometheus.port({}) == prometheus.port({"DKD_METRICS_PORT": ""}) == 0
    assert prometheus.port({"DKD_METRICS_PORT": "9464"}) == 9464


@pytest.mark.parametrize("said", ["many", "-1", "65536", "9.5", "²"])
def test_what_is_no_port_is_refused(said: str) -> None:
    with pytest.raises(UserError, match=f"DKD_METRICS_PORT={said}: give a port"):
        prometheus.port({"DKD_METRICS_PORT": said})
