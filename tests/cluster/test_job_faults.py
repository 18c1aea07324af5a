"""Faults while a step trains: each ends in the finished step or a clear failure, never in a hang.

A finished step is compared with the same step undisturbed: not a bit may differ.
"""

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pytest
from commands import delete, dkd, end_process, get, get_all, has_hooks, hook, kubectl, wait_until
from tasks import Task, Tasks

from dkd import storage
from dkd.scenario.parsing import dump
from dkd.scenario.schema import Scenario
from dkd.steps import stages
from dkd.storage import artifacts

WORKERS = "app.kubernetes.io/component=worker"


@dataclass
class Step:
    """A step that trains on the cluster, launched by a pod."""

    task: Task
    arguments: dict[str, Any]
    namespace: str
    name: str

    @property
    def root(self) -> str:
        return str(self.arguments["artifact_root"])

    @property
    def workers(self) -> list[dict[str, Any]]:
        selector = f"jobset.sigs.k8s.io/jobset-name={self.name}"
        return sorted(
            get_all("pods", self.namespace, selector), key=lambda x: x["metadata"]["name"]
        )

    def checkpoint(self) -> str:
        """Digest of the one checkpoint; waits for the launching task's success."""
        return artifacts.load(self.task.result(600)["checkpoint"]).digest

    def job_is_gone(self, seconds: float) -> None:
        wait_until(
            lambda: get("trainjob", self.name, self.namespace) is None and not self.workers,
            seconds,
            f"the end of {self.name}",
        )


@pytest.fixture(scope="module")
def long(scenario: Scenario) -> Scenario:
    """A step of about a minute, on two nodes with a rank each."""
    epochs = {"first": int(os.environ.get("DKD_TEST_EPOCHS", "60")), "later": 1}
    return scenario.override(
        {
            "training.epochs": epochs,
            "training.loader_workers": 0,
            "training.save_interval": 3,
            "memory_size": 0,
            "launch.processes_per_node": 1,
        }
    )


@pytest.fixture(scope="module")
def undisturbed(long: Scenario, store: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Digest of the step's checkpoint, trained on this machine."""
    folder = tmp_path_factory.mktemp("undisturbed")
    alone = long.override({"launch.backend": "local", "task": [list(long.task[0])]})
    (folder / "long.yaml").write_text(dump(alone))
    root = f"{store}/undisturbed"
    dkd("run", str(folder / "long.yaml"), "--root", root, "--workspace", str(folder / "work"))
    (uri,) = {
        entry.uri.rpartition("/")[0]
        for entry in storage.list_objects(f"{root}/checkpoints/")
        if entry.uri.endswith("/manifest.json")
    }
    return artifacts.load(uri).digest


@pytest.fixture
def begin(tasks: Tasks, long: Scenario, store: str, request: pytest.FixtureRequest) -> Any:
    """Starts the step under an artifact root of the test's own; waits for its first save."""
    begun: list[Step] = []

    def begin(*, on: str = "", settings: Mapping[str, Any] | None = None) -> Step:
        name = request.node.name.removeprefix("test_").replace("_", "-")[:40]
        root = f"{store}/{name}"
        arguments = {
            "scenario": stages.write_resolved(root, name, long.override(settings or {})),
            "task": [list(names) for names in long.task],
            "step": 0.0,
            "dataset": long.data.root,
            "artifact_root": root,
            "run_name": name,
        }
        task = tasks.start("step", on=on, **arguments, teacher="", memory="")
        line = task.wait_for("ranks created in namespace", 60)
        step = Step(task, arguments, tasks.namespace, line.split(":")[0])
        begun.append(step)
        saves = f"{step.root}/saves/"
        wait_until(
            lambda: any(x.uri.endswith("manifest.json") for x in storage.list_objects(saves)),
            240,
            "the first save",
        )
        return step

    yield begin
    for step in begun:
        delete("pod", step.task.name, step.namespace, "--wait=false")
        delete("trainjob", step.name, step.namespace, "--wait=false")


def test_a_worker_pod_is_deleted(begin: Any, undisturbed: str) -> None:
    step = begin()
    victim = step.workers[1]["metadata"]["name"]
    kubectl("delete", "pod", victim, "-n", step.namespace, "--wait=false")
    step.task.wait_for("all ranks start again from the last save (restart 1 of 3)", 150)
    assert step.checkpoint() == undisturbed
    assert "resumed from s3://" in step.task.log


def test_a_worker_is_killed(begin: Any, undisturbed: str) -> None:
    step = begin()
    victim = step.workers[1]["metadata"]["name"]
    end_process(victim, "node", step.namespace, "dkd.train\0--step")
    step.task.wait_for("lost rank 1 to SIGKILL", 60)
    step.task.wait_for("all ranks start again from the last save (restart 1 of 3)", 60)
    assert step.checkpoint() == undisturbed
    assert "resumed from s3://" in step.task.log


LOADER = "pt_data_worker"
"""As PyTorch names the processes that load images."""


def test_a_rank_raises_an_error(begin: Any, undisturbed: str) -> None:
    """Its loader is killed, as for lack of memory; PyTorch raises an error in the rank."""
    step = begin(settings={"training.loader_workers": 1})
    end_process(step.workers[1]["metadata"]["name"], "node", step.namespace, LOADER)
    step.task.wait_for("node 1 failed in rank 1", 60)
    step.task.wait_for("all ranks start again from the last save (restart 1 of 3)", 60)
    assert step.checkpoint() == undisturbed
    assert "resumed from s3://" in step.task.log


def test_the_job_is_deleted_by_somebody(begin: Any, tasks: Tasks, undisturbed: str) -> None:
    step = begin()
    kubectl("delete", "trainjob", step.name, "-n", step.namespace, "--wait=false")
    message = step.task.failure()
    assert f"TrainJob {step.name} was deleted by someone else" in message
    assert len(message.splitlines()) == 1
    again = tasks.start("step", **step.arguments, teacher="", memory="")
    assert artifacts.load(again.result(600)["checkpoint"]).digest == undisturbed
    assert "resumed from s3://" in again.log


def test_two_launching_tasks_for_one_job(begin: Any, tasks: Tasks, undisturbed: str) -> None:
    step = begin()
    other = tasks.start("step", **step.arguments, teacher="", memory="")
    other.wait_for(f"waiting for run {step.arguments['run_name']}, which trains this step")
    assert step.checkpoint() == undisturbed
    assert artifacts.load(other.result(60)["checkpoint"]).digest == undisturbed
    assert "TrainJob of" not in other.log
    step.job_is_gone(60)


def test_the_result_of_a_complete_job_is_gone(begin: Any, tasks: Tasks, undisturbed: str) -> None:
    step = begin()
    end_process(step.task.name, "main", step.namespace, "kfp.dsl.executor_main")
    wait_until(lambda: completed(step), 300, f"the completion of {step.name}")
    (manifest,) = (
        entry.uri
        for entry in storage.list_objects(f"{step.root}/checkpoints/")
        if entry.uri.endswith("/manifest.json")
    )
    storage.delete([manifest])
    again = tasks.start("step", **step.arguments, teacher="", memory="")
    again.wait_for(f"{step.name}: completed earlier, but its result is gone; running it again")
    assert artifacts.load(again.result(600)["checkpoint"]).digest == undisturbed


def completed(step: Step) -> bool:
    job = get("trainjob", step.name, step.namespace)
    assert job
    conditions = job.get("status", {}).get("conditions", [])
    return any(each["type"] == "Complete" and each["status"] == "True" for each in conditions)


def test_the_launching_pod_is_killed_and_tried_again(
    begin: Any, tasks: Tasks, undisturbed: str
) -> None:
    step = begin()
    end_process(step.task.name, "main", step.namespace, "kfp.dsl.executor_main")
    assert step.task.ended(30) == "Failed"
    job = get("trainjob", step.name, step.namespace)
    assert job
    again = tasks.start("step", **step.arguments, teacher="", memory="")
    again.wait_for(f"{step.name}: running since {job['metadata']['creationTimestamp']}; following")
    assert artifacts.load(again.result(600)["checkpoint"]).digest == undisturbed
    assert "resumed from" not in again.log  # the ranks were not disturbed


def test_the_launching_task_is_told_to_stop(begin: Any) -> None:
    step = begin()
    step.task.terminate()
    step.job_is_gone(30)
    assert step.task.ended(30) == "Failed"
    assert f"{step.name}: stopping; deleting the job" in step.task.log


KILL_API, START_API = "DKD_TEST_KILL_API_SERVER", "DKD_TEST_START_API_SERVER"


@pytest.mark.skipif(not has_hooks([KILL_API, START_API]), reason=f"{KILL_API} is not set")
def test_the_api_server_is_killed_and_started_again(begin: Any, undisturbed: str) -> None:
    step = begin()
    hook(KILL_API)
    time.sleep(15)  # long enough for everybody to notice
    hook(START_API)
    step.task.wait_for("the API server answers again, after", 60)
    assert step.checkpoint() == undisturbed
    log = step.task.log.splitlines()
    epochs = [line for line in log if "epoch" in line and step.name not in line]
    assert len(epochs) == len(set(epochs))  # no line twice


STOP_S3 = "DKD_TEST_RESTART_S3"


@pytest.mark.skipif(not has_hooks([STOP_S3]), reason=f"{STOP_S3} is not set")
def test_s3_is_restarted(begin: Any, undisturbed: str) -> None:
    step = begin()
    hook(STOP_S3)
    assert step.checkpoint() == undisturbed


POWER_OFF, POWER_ON = "DKD_TEST_POWER_OFF", "DKD_TEST_POWER_ON"


@pytest.mark.skipif(not has_hooks([POWER_OFF, POWER_ON]), reason=f"{POWER_OFF} is not set")
def test_a_machine_loses_power(begin: Any, undisturbed: str) -> None:
    (store,) = get_all("pods", "kubeflow", "app=seaweedfs")
    survivor = store["spec"]["nodeName"]
    step = begin(on=survivor)
    hosts = {each["spec"]["nodeName"] for each in step.workers}
    assert len(hosts) == 2, "the workers are on one machine"
    (victim,) = hosts - {survivor}
    hook(POWER_OFF, victim)
    try:
        told = step.task.wait_for(f"machine {victim} has not answered since", 120)
        assert f"kubectl delete node {victim}" in told
        kubectl("delete", "node", victim)
        step.task.wait_for("all ranks start again from the last save (restart 1 of 3)", 120)
    finally:
        hook(POWER_ON, victim)
    assert step.checkpoint() == undisturbed


CUT, RECONNECT = "DKD_TEST_CUT", "DKD_TEST_RECONNECT"


@pytest.mark.skipif(not has_hooks([CUT, RECONNECT]), reason=f"{CUT} is not set")
def test_two_workers_do_not_reach_each_other_for_a_minute(begin: Any, undisturbed: str) -> None:
    step = begin()
    addresses = [each["status"]["podIP"] for each in step.workers]
    hook(CUT, *addresses)
    try:
        time.sleep(60)
    finally:
        hook(RECONNECT, *addresses)
    assert step.checkpoint() == undisturbed
    assert "start again" not in step.task.log  # they waited for each other


@pytest.mark.skipif(not has_hooks([CUT, RECONNECT]), reason=f"{CUT} is not set")
def test_two_workers_do_not_reach_each_other_for_good(begin: Any, undisturbed: str) -> None:
    step = begin()
    addresses = [each["status"]["podIP"] for each in step.workers]
    hook(CUT, *addresses)
    try:
        step.task.wait_for("no iteration for 5 min (last ", 400)
        step.task.wait_for("all ranks start again from the last save (restart 1 of 3)", 500)
    finally:
        hook(RECONNECT, *addresses)
    assert step.checkpoint() == undisturbed
    assert "resumed from s3://" in step.task.log


RESTART_CONTAINERD = "DKD_TEST_RESTART_CONTAINERD"


@pytest.mark.skipif(not has_hooks([RESTART_CONTAINERD]), reason=f"{RESTART_CONTAINERD} is not set")
def test_containerd_is_restarted(begin: Any, undisturbed: str) -> None:
    step = begin()
    hook(RESTART_CONTAINERD, step.workers[0]["spec"]["nodeName"])
    assert step.checkpoint() == undisturbed
    assert "start again" not in step.task.log
