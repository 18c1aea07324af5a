"""Compile, submit, status, logs, cancel and the form, against a real Kubeflow Pipelines."""

import os
import time
from pathlib import Path

import pytest
from commands import dkd, kubectl, wait_until

from dkd.kubeflow import internals, runs
from dkd.kubeflow.client import Endpoint
from dkd.kubeflow.graph import graph, pipeline_spec

TITLES = [
    "Step 0: 4 classes",
    "Step 1: + four, five",
    "Step 2: + six, seven",
    "Report",
]


@pytest.fixture(scope="module")
def endpoint() -> Endpoint:
    return Endpoint(os.environ["DKD_KFP_ENDPOINT"])


def submit(pipeline: Path, name: str, *options: str, check: bool = True) -> str:
    given = ("--run-name", name, "-p", f"run_name={name}", *options)
    return dkd("submit", str(pipeline), *given, check=check)


def pods(endpoint: Endpoint, name: str) -> int:
    """How many pods Kubeflow Pipelines started for a run, drivers included."""
    workflow = endpoint.workflow(runs.find(endpoint, name)["run_id"])
    assert workflow
    return sum(node["type"] == "Pod" for node in internals._nodes(workflow).values())


@pytest.fixture(scope="module")
def new_run(pipeline: Path, prefix: str) -> str:
    name = f"{prefix}-new"
    printed = submit(pipeline, name, "--watch")
    for title in TITLES:
        assert f"succeeded  {title}" in printed, printed
    return name


def test_a_run_goes_through_and_its_status_is_seen(new_run: str, endpoint: Endpoint) -> None:
    (line,) = [line for line in dkd("status").splitlines() if line.endswith(new_run)]
    assert " succeeded " in line
    nodes = graph(endpoint, runs.find(endpoint, new_run))
    assert [node.title for node in nodes] == TITLES
    assert {node.state for node in nodes} == {"succeeded"}
    assert all(len(node.pods) == 1 and node.started and node.ended for node in nodes)


def test_its_logs_are_the_jobs(new_run: str) -> None:
    printed = dkd("logs", new_run, "--task", "Step 1")
    assert printed.startswith("=== Step 1: + four, five\n")
    assert "TrainJob of 2 x 1 ranks created in namespace" in printed
    assert "epoch 2/2: " in printed
    assert printed.count("step 1 train: ") == 1
    assert "[KFP Executor" not in printed


def test_a_run_that_finds_everything_trains_nothing_and_is_nine_pods(
    new_run: str, pipeline: Path, prefix: str, endpoint: Endpoint
) -> None:
    name, started = f"{prefix}-found", time.monotonic()
    submit(pipeline, name, "--watch")
    seconds = time.monotonic() - started
    printed = dkd("logs", name)
    for step in range(3):
        assert f"step {step} train: found, made by run {new_run}" in printed
    assert "TrainJob of" not in printed
    assert pods(endpoint, name) == pods(endpoint, new_run) == 9
    print(f"found: {seconds:.0f} s, 9 pods")


def test_cancel_tells_the_training_to_save_and_the_next_run_goes_on(
    pipeline: Path, prefix: str, endpoint: Endpoint
) -> None:
    name = f"{prefix}-canceled"
    longer = ("-p", "epochs_first_step=600")
    submit(pipeline, name, *longer)
    wait_until(
        lambda: "saved at iteration" in dkd("logs", name, "--task", "Step 0", check=False),
        600,
        "a save",
    )
    dkd("cancel", name)
    found = wait_until(
        lambda: (r := runs.find(endpoint, name)).get("state") in runs.FINISHED and r, 300, "the end"
    )
    assert runs.state(found) == "canceled"
    log = ("logs", name, "--task", "Step 0")
    wait_until(lambda: "stopping; deleting the job" in dkd(*log), 60, "its last word")


@pytest.mark.skipif("KUBECONFIG" not in os.environ, reason="no KUBECONFIG to delete pods by")
def test_a_launching_pod_that_is_deleted_is_made_again_and_goes_on(
    pipeline: Path, prefix: str, endpoint: Endpoint
) -> None:
    """As Kubeflow Pipelines' own configuration of Argo says: the pipeline itself says nothing."""
    name = f"{prefix}-deleted"
    submit(pipeline, name, "-p", "epochs_first_step=601")
    log = ("logs", name, "--task", "Step 0")
    wait_until(lambda: "saved at iteration" in dkd(*log, check=False), 600, "a save")
    (node,) = graph(endpoint, runs.find(endpoint, name))
    kubectl("delete", "pod", node.pods[-1], "-n", node.namespace)
    wait_until(lambda: "resumed from s3://" in dkd(*log), 300, "the next attempt")
    (node,) = graph(endpoint, runs.find(endpoint, name))
    assert (node.state, len(node.pods)) == ("running", 2)
    dkd("cancel", name)


def test_the_form_is_the_servers(pipeline: Path, new_run: str, endpoint: Endpoint) -> None:
    spec = pipeline_spec(endpoint, runs.find(endpoint, new_run))
    given = spec["root"]["inputDefinitions"]["parameters"]
    assert given["training_backend"]["literals"] == ["trainjob", "pytorchjob", "local"]
    assert given["training_nodes"]["defaultValue"] == 2
    assert all("defaultValue" in each for each in given.values())
    refused = submit(pipeline, f"{new_run}-no", "-p", "training_nodes=0", check=False)
    assert "training_nodes: " in refused


def test_what_the_first_task_refuses_is_told_once_and_ends_the_run(
    pipeline: Path, prefix: str, endpoint: Endpoint
) -> None:
    name = f"{prefix}-refused"
    printed = submit(pipeline, name, "--watch", "-p", "data_set_uri=s3://none/there", check=False)
    assert f"run {name} failed at {TITLES[0]}: s3://none/there" in printed
    assert f"run {name} failed at {TITLES[0]}: s3://none/there" in dkd("status", name, check=False)
    (node,) = graph(endpoint, runs.find(endpoint, name))
    assert (node.state, len(node.pods)) == ("failed", 1)
