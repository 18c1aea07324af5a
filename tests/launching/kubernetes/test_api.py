"""The API server: one that is away, refuses, forgets or is not there."""

import random
from dataclasses import replace
from pathlib import Path

import fake_api
import pytest
from cluster_stage import HURRY, Stage, misbehaving


@pytest.mark.parametrize("kind", ["dropped connections", "503", "429", "500 from a webhook", "401"])
def test_an_api_server_that_is_away_for_a_while_is_waited_for(trainjob: Stage, kind: str) -> None:
    launched = trainjob.launch()
    trainjob.created()
    pod = trainjob.pod(0)
    trainjob.api.write_log(pod, "epoch 1")
    launched.wait_for("epoch 1")

    def fail(verb: str, resource: str) -> None:
        raise misbehaving(kind)

    trainjob.api.fault = fail
    launched.wait_for("the API server does not answer")
    trainjob.api.write_log(pod, "epoch 2")
    trainjob.api.fault = lambda verb, resource: None
    launched.wait_for("the API server answers again")
    launched.wait_for("epoch 2")
    trainjob.complete()
    launched.result()
    assert launched.said.count("epoch 1") == launched.said.count("epoch 2") == 1


def test_one_request_in_five_failing_changes_nothing(stage: Stage) -> None:
    dice = random.Random(7)

    def fail(verb: str, resource: str) -> None:
        if dice.random() < 0.2:
            raise fake_api.Dropped

    stage.api.fault = fail
    launched = stage.launch(replace(HURRY, creating=60))
    stage.created()
    pod = stage.pod(0)
    lines = [f"epoch {number}" for number in range(30)]
    for line in lines:
        stage.api.write_log(pod, line)
    launched.wait_for("epoch 29")
    stage.complete()
    launched.result()
    assert [line for line in launched.said if line.startswith("epoch")] == lines


def test_an_api_server_that_stays_away_at_creation_is_given_up(stage: Stage) -> None:
    def fail(verb: str, resource: str) -> None:
        raise fake_api.Error(503, "apiserver not ready", "", "ServiceUnavailable")

    stage.api.fault = fail
    message = stage.launch().failure()
    assert "the API server does not answer (503 apiserver not ready)" in message
    assert f"kubectl get {stage.operator.resource.full_name} step-1-abc -n team" in message


def test_an_expired_watch_is_started_again(trainjob: Stage) -> None:
    launched = trainjob.launch()
    trainjob.created()
    trainjob.pod(0)
    launched.wait_for("node 0 running")
    trainjob.api.compact()
    trainjob.pod(1)
    launched.wait_for("node 1 running")
    trainjob.complete()
    launched.result()


def test_no_server_at_all(trainjob: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tmp_path / "kubeconfig"
    config.write_text(config.read_text().replace("127.0.0.1:", "127.0.0.1:1/"))
    assert "the API server does not answer" in trainjob.launch().failure()


def test_no_cluster(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, trainjob: Stage) -> None:
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "absent"))
    message = trainjob.launch().failure()
    assert message.startswith("no Kubernetes cluster: ")
    assert message.endswith("run in a pod, set KUBECONFIG, or use launch.backend=local")
