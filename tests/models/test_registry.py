"""Versions in a Kubeflow Model Registry: a real one where ``DKD_TEST_MODEL_REGISTRY`` names it."""

import os
import socket
import warnings
from pathlib import Path
from typing import Any

import pytest
from made_results import FAILED, finished

from dkd.models import adding, catalogue, registry

ENDPOINT = os.environ.get("DKD_TEST_MODEL_REGISTRY", "")
real = pytest.mark.skipif(not ENDPOINT, reason="DKD_TEST_MODEL_REGISTRY names no model registry")


def client() -> Any:
    from model_registry import ModelRegistry

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return ModelRegistry(ENDPOINT, author="test", async_runner=registry._bounded)


@real
def test_a_version_and_its_promotion_are_registered(tmp_path: Path) -> None:
    root, name, said = str(tmp_path), f"street-{os.getpid()}-{os.urandom(3).hex()}", list[str]()
    finished(root, "one", "road")
    result = finished(root, "two", "road", "sheep", gate=(FAILED,))
    adding.add_run(root, name, "one", registry=ENDPOINT, say=said.append)
    added = adding.add_result(
        root, name, "two", result, registry=ENDPOINT, say=said.append, kubeflow_run="4c-5e"
    )
    for number, reason in ((1, ""), (2, "agreed")):
        done = catalogue.promote(root, name, number, by="Ada", despite_gate=reason)
        adding.tell_promotion(root, name, done, ENDPOINT, said.append)
    assert not [line for line in said if "warning" in line], said
    there = client()
    artifact = there.get_model_artifact(name, "2")
    assert artifact.uri == added.checkpoint.uri
    assert (artifact.model_source_kind, artifact.model_source_id) == ("kfp", "4c-5e")
    first, second = (there.get_model_version(name, number) for number in "12")
    assert first.custom_properties["production"] is False
    found = second.custom_properties
    assert found["production"] is True
    assert (found["gate"], found["despite_gate"]) == ("failed", "agreed")
    assert found["miou_all"] == added.scores.miou_all
    assert found["dataset_digest"] == added.dataset.digest
    adding.add_result(root, name, "two", result, registry=ENDPOINT, say=said.append)
    assert said[-1] == f"model registry {ENDPOINT}: has {name} version 2"
    adding.tell_removal(name, 1, ENDPOINT, said.append)
    assert said[-1] == f"model registry {ENDPOINT}: has {name} version 1 archived"
    assert there.get_model_version(name, "1").state.value == "ARCHIVED"


def test_a_registry_that_is_away_costs_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    said = list[str]()
    finished(str(tmp_path), "one", "road")
    endpoint = f"http://127.0.0.1:{port}"
    version = adding.add_run(str(tmp_path), "street", "one", registry=endpoint, say=said.append)
    assert version.version == 1
    assert len(said) == 2
    assert said[1].startswith(f"warning: the model registry {endpoint} was not told (")
    assert "\n" not in said[1]
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes the connection, says nothing
        monkeypatch.setattr(registry, "SECONDS", 0.2)
        endpoint = f"http://127.0.0.1:{silent.getsockname()[1]}"
        registry.tell_version(version, endpoint, said.append)
    assert said[2].startswith(f"warning: the model registry {endpoint} was not told (TimeoutError")
