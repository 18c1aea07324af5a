"""Formats that Kubeflow Pipelines and Argo keep to themselves, in documents of their shape.

Names, types, ids and order of the nodes are Argo's (workflow/controller: dag.go, operator.go).
"""

import base64
import gzip
import json
from typing import Any

import pytest
import yaml

from dkd.kubeflow import internals
from dkd.kubeflow.internals import started
from dkd.pipelines import compiled
from dkd.scenario.launch import Launch

Object = dict[str, Any]


def workflow(*nodes: Object, packed: bool = False) -> Object:
    known = {node["id"]: node for node in nodes}
    status: Object = {"nodes": known}
    if packed:
        text = gzip.compress(json.dumps(known).encode())
        status = {"compressedNodes": base64.b64encode(text).decode()}
    metadata = {"name": "dkd-voc-15-5-kx7lm", "namespace": "team"}
    return {"metadata": metadata, "status": status}


def node(place: str, kind: str, phase: str, at: str = "", number: int = 0, **more: Any) -> Object:
    return {
        "id": f"dkd-voc-15-5-kx7lm-{number}",
        "name": f"dkd-voc-15-5-kx7lm{place}",
        "displayName": place.rpartition(".")[2],
        "type": kind,
        "phase": phase,
        "startedAt": f"2026-11-27T10:{at}Z" if at else None,
        "finishedAt": None,
        **more,
    }


EXECUTOR: Object = {"templateName": "metadata-1-0-retry-system-container-impl"}
GONE: Object = {**EXECUTOR, "message": "pod deleted"}

PLAIN = (
    node("", "DAG", "Running", "00:00", 1),
    node(".root-driver", "Pod", "Succeeded", "00:00", 2, templateName="system-dag-driver"),
    node(".root", "DAG", "Running", "00:20", 3),
    node(".root.step-0", "DAG", "Running", "00:30", 4),
    node(".root.step-0.step-0-train", "DAG", "Running", "00:40", 5),
    node(".root.step-0.step-0-train.executor", "Pod", "Running", "00:40", 6, **EXECUTOR),
)
RETRIED = (
    *PLAIN[:5],
    node(".root.step-0.step-0-train.executor", "Retry", "Running", "00:40", 7),
    node(".root.step-0.step-0-train.executor(0)", "Pod", "Running", "00:40", 6, **EXECUTOR),
)
EVERY = "(0).root(0).step-0(0).step-0-train(0)"
STOCK = (
    node("", "Retry", "Running", "00:00", 1),
    node("(0)", "DAG", "Running", "00:00", 2),
    node("(0).root-driver", "Retry", "Succeeded", "00:00", 3),
    node("(0).root-driver(0)", "Pod", "Succeeded", "00:00", 4, templateName="system-dag-driver"),
    node("(0).root", "Retry", "Running", "00:20", 5),
    node("(0).root(0)", "DAG", "Running", "00:20", 11),
    node("(0).root(0).step-0", "Retry", "Running", "00:30", 12),
    node("(0).root(0).step-0(0)", "DAG", "Running", "00:30", 13),
    node("(0).root(0).step-0(0).step-0-train", "Retry", "Running", "00:40", 14),
    node(EVERY, "DAG", "Running", "00:40", 15),
    node(f"{EVERY}.executor", "Retry", "Running", "00:40", 16),
    node(f"{EVERY}.executor(0)", "Pod", "Running", "00:40", 6, **EXECUTOR),
)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("form", [PLAIN, RETRIED, STOCK], ids=["plain", "retried", "stock"])
def test_a_task_is_found_in_every_form_of_its_name(form: tuple[Object, ...], packed: bool) -> None:
    all_found = started(workflow(*form, packed=packed))
    assert [each.place for each in all_found if each.driver] == [()]
    found = {each.place: each for each in all_found if not each.driver}
    train = found["step-0", "step-0-train"]
    assert train.state == "running"
    assert train.started == "2026-11-27T10:00:40Z"
    assert train.pods == ("dkd-voc-15-5-kx7lm-metadata-1-0-retry-system-container-impl-6",)
    assert train.namespace == "team"
    assert found["step-0",].pods == ()
    assert set(found) == {(), ("step-0",), ("step-0", "step-0-train")}


def test_attempts_are_one_task_with_several_pods() -> None:
    train = "(0).root(0).step-0(0).step-0-train"
    (found,) = started(
        workflow(
            node(train, "Retry", "Running", "00:40", 1, message="Backoff for 30 seconds"),
            node(f"{train}(0)", "DAG", "Running", "00:40", 2),
            node(f"{train}(0).executor", "Retry", "Running", "00:40", 3),
            node(f"{train}(0).executor(0)", "Pod", "Error", "00:40", 4, **GONE),
            node(f"{train}(0).executor(1)", "Pod", "Pending", "01:40", 5, **EXECUTOR),
        )
    )
    assert [pod[-2:] for pod in found.pods] == ["-4", "-5"]
    assert found.state == "pending"
    assert found.message == "pod deleted"


def test_attempts_of_what_a_task_is_in() -> None:
    """Argo retries a whole sub-DAG too: the newest attempt tells how its tasks are."""
    first, second = "(0).root(0).step-0(0).step-0-train", "(0).root(0).step-0(1).step-0-train"
    (found,) = started(
        workflow(
            node(first, "Retry", "Error", "00:40", 1, finishedAt="2026-11-27T10:01:00Z"),
            node(f"{first}(0)", "DAG", "Error", "00:40", 2),
            node(f"{first}(0).executor(0)", "Pod", "Error", "00:41", 3, **EXECUTOR),
            node(second, "Retry", "Running", "01:40", 4),
            node(f"{second}(0)", "DAG", "Running", "01:40", 5),
            node(f"{second}(0).executor(0)", "Pod", "Running", "01:41", 6, **EXECUTOR),
        )
    )
    assert found.state == "running"
    assert found.started == "2026-11-27T10:00:40Z"
    assert found.ended == ""
    assert [pod[-2:] for pod in found.pods] == ["-3", "-6"]


ELSEWHERE = {"status": {"offloadNodeStatusVersion": "fnv:784444487"}}


def test_what_is_skipped_has_not_started() -> None:
    assert started(workflow(node("(0).root(0).report", "Skipped", "Omitted", "05:00"))) == []
    assert started({"metadata": {"name": "w"}}) == []


@pytest.mark.parametrize(
    "answer",
    [
        b"<html>",
        b"[]",
        b'{"pipeline_runtime": {}}',
        b'{"pipeline_runtime": {"workflow_manifest": ""}}',
        json.dumps({"pipeline_runtime": {"workflow_manifest": json.dumps(ELSEWHERE)}}).encode(),
    ],
)
def test_no_workflow(answer: bytes) -> None:
    assert internals.workflow_in(answer) is None


def test_the_apis_own_list_of_tasks() -> None:
    times = {"start_time": "2026-11-27T10:00:40Z", "end_time": "0001-01-01T00:00:00Z"}
    run = {
        "run_details": {
            "task_details": [
                {"display_name": "step-0-train", "state": "RUNNING", **times},
                {"display_name": "step-0-train(0)", "state": "RUNNING", **times},
                {
                    "display_name": "step-0-train-driver(0)",
                    "state": "SUCCEEDED",
                    **times,
                    "end_time": "2026-11-27T10:00:50Z",
                },
            ]
        }
    }
    train, driver = internals.started_by_name(run)
    assert (train.place, train.state, train.ended) == (("step-0-train",), "running", "")
    assert driver.driver
    assert driver.ended == "2026-11-27T10:00:50Z"
    assert internals.started_by_name({}) == []


def test_what_runs_a_component() -> None:
    for executor in compiled_executors():
        command = " ".join(executor["container"]["command"])
        assert f"python3 -m {internals.EXECUTOR} " in command


def compiled_executors() -> list[Object]:
    document = next(yaml.safe_load_all(compiled.of_extension(Launch())))
    return list(document["deploymentSpec"]["executors"].values())


def test_what_kfp_prints_around_a_component_is_left_out() -> None:
    log = """\
I1127 00:33:51.518984      16 main.go:67] Setting log level to: '1'
[KFP Executor 2026-11-27 00:33:51,583 INFO]: Got executor_input:
{
    "inputs": {}
}
time=2026-11-27T00:33:51.483Z level=INFO msg="capturing logs" argo=true
step 0: cat
{"own": "JSON"}
Error: exit status 1
"""
    lines = list(internals.component_lines(log))
    assert lines == ["step 0: cat", '{"own": "JSON"}', "Error: exit status 1"]
    assert internals.last_words(log) == '{"own": "JSON"}'
    fatal = "F1127 00:31:07.228923      16 main.go:127] KFP driver: cannot write\n"
    assert internals.last_words(log + fatal) == "KFP driver: cannot write"
    assert internals.last_words("") == ""
