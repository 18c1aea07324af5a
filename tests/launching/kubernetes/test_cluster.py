"""Jobs on a cluster whose API misbehaves: created, adopted, followed, verified, cleaned up."""

import copy
import signal
import subprocess
import sys
from pathlib import Path

import fake_api
import pytest
from cluster_stage import Stage, misbehaving, wait_until

from dkd.errors import UserError
from dkd.launching import launcher
from dkd.launching.kubernetes import nodes
from dkd.launching.kubernetes.api import Cluster
from dkd.scenario.launch import Launch


def test_a_job_is_followed_to_its_verified_result(stage: Stage) -> None:
    launched = stage.launch()
    stage.created()
    stage.pod(0, "Pending")
    launched.wait_for("step-1-abc: node 0 pending, node 1 not created")
    first = stage.pod(0)
    stage.pod(1)
    launched.wait_for("step-1-abc: node 0 running on machine0, node 1 running on machine1")
    stage.api.write_log(first, "epoch 1", "epoch 2")
    launched.wait_for("epoch 2")
    stage.api.write_log(first, "done")
    stage.complete()
    launched.result()
    assert [line for line in launched.said if not line.startswith("step-1-abc")] == [
        "epoch 1",
        "epoch 2",
        "done",
    ]
    assert stage.api.deleted == [(stage.plural, stage.name)]


def test_complete_without_a_result_is_a_failure(stage: Stage) -> None:
    launched = stage.launch()
    stage.created()
    stage.complete(publish=False)
    assert "published nothing at" in launched.failure()


def test_the_runtime_of_a_job_is_the_jobs_own(trainjob: Stage) -> None:
    launched = trainjob.launch(nodes=3, max_restarts=5)
    trainjob.created()
    job = trainjob.api.objects["trainjobs", trainjob.name]
    runtime = trainjob.api.objects["trainingruntimes", trainjob.name]
    wait_until(lambda: runtime["metadata"].get("ownerReferences"))
    assert runtime["metadata"]["ownerReferences"][0]["uid"] == job["metadata"]["uid"]
    assert runtime["spec"]["mlPolicy"]["numNodes"] == 3
    (node,) = runtime["spec"]["template"]["spec"]["replicatedJobs"]
    assert node["template"]["spec"]["parallelism"] == 3  # Kueue counts it
    assert node["template"]["spec"]["completions"] == 3
    assert runtime["spec"]["template"]["spec"]["failurePolicy"]["maxRestarts"] == 5
    trainjob.complete()
    launched.result()


EARLIER = {"apiVersion": "v1", "kind": "TrainJob", "name": Stage.name, "uid": "an-earlier-one"}


@pytest.mark.parametrize(
    "going",
    [{"ownerReferences": [EARLIER]}, {"deletionTimestamp": fake_api.CREATED}],
    ids=["its TrainJob is gone", "being deleted"],
)
def test_the_runtime_of_an_earlier_job_is_not_taken_over(
    trainjob: Stage, going: dict[str, object]
) -> None:
    """The cluster removes it some time after its TrainJob, whoever has written to it since."""
    old = {"metadata": {"name": trainjob.name, **going}, "spec": {}}
    trainjob.api.objects["trainingruntimes", trainjob.name] = old
    launched = trainjob.launch()
    line = launched.wait_for("TrainingRuntime step-1-abc of the earlier job is being removed")
    assert "API server" not in line
    with trainjob.api.lock:
        del trainjob.api.objects["trainingruntimes", trainjob.name]
    trainjob.created()
    trainjob.complete()
    launched.result()


# ---- the launching task comes back


def test_a_running_job_is_adopted(stage: Stage) -> None:
    first = stage.launch()
    stage.created()
    pod = stage.pod(0)
    stage.api.write_log(pod, "epoch 1")
    first.wait_for("epoch 1")
    second = stage.launch()  # as a retry after a SIGKILL
    second.wait_for("running since")
    second.wait_for("epoch 1")
    stage.complete()
    second.result()
    creations = [each for each in stage.api.requests if each == ("create", stage.plural)]
    assert len(creations) == 1


def test_an_adopted_job_that_was_asked_for_less_is_followed_by_one_of_its_own(
    stage: Stage,
) -> None:
    """Another run's, say, which keeps no memory: all is done that it was asked for."""
    stage.launch()
    stage.created()
    other = stage.launch()
    other.wait_for("running since")
    stage.complete(publish=False)
    wait_until(lambda: stage.api.requests.count(("create", stage.plural)) == 2)
    stage.complete()
    other.result()


def test_a_job_that_completed_while_nobody_looked_is_a_success(stage: Stage) -> None:
    launched = stage.launch()
    stage.created()
    found = copy.deepcopy(stage.api.objects[stage.plural, stage.name])
    stage.complete()
    launched.result()
    stage.api.objects[stage.plural, stage.name] = found
    stage.condition("Complete" if stage.kind == "trainjob" else "Succeeded")
    again = stage.launch()
    again.result()
    assert stage.api.requests.count(("create", stage.plural)) == 1


def test_a_failed_job_is_replaced_after_its_pods_have_ended(stage: Stage) -> None:
    first = stage.launch(max_restarts=0)
    stage.created()
    stage.pod(0, "Failed", containers=[fake_api.terminated(1)])
    stage.condition("Failed")
    first.failure()
    stage.api.ending.clear()
    again = stage.launch()
    again.wait_for("failed earlier; starting it again")
    again.wait_for("waiting for the earlier job's pods to end")
    stage.api.end(stage.plural, stage.name)
    stage.api.ending.set()
    again.wait_for("created in namespace team")
    stage.complete()
    again.result()


def test_a_job_of_another_purpose_is_left_alone(stage: Stage) -> None:
    launched = stage.launch()
    stage.created()
    launched.wait_for("created in namespace")
    found = stage.api.objects[stage.plural, stage.name]
    found["metadata"]["annotations"][nodes.IDENTITY] = "something else"
    other = stage.launch()
    message = other.failure()
    assert f"{stage.name} in namespace team is running something else; kubectl delete" in message
    assert stage.api.deleted == []
    stage.complete()
    launched.result()


def workflow(name: str) -> dict[str, str]:
    return {"apiVersion": "argoproj.io/v1alpha1", "kind": "Workflow", "name": name, "uid": name}


@pytest.mark.parametrize("may", [True, False])
def test_an_adopted_job_outlives_the_workflow_that_started_it(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, may: bool
) -> None:
    """The cluster removes it when its last owner is gone."""
    monkeypatch.setattr(Cluster, "owner", lambda _: workflow("first"))
    launched = stage.launch()
    stage.created()
    again = stage.launch()  # a retry in the same workflow
    again.wait_for("running since")
    job = stage.api.objects[stage.plural, stage.name]
    assert job["metadata"]["ownerReferences"] == [workflow("first")]
    if not may:

        def fault(verb: str, resource: str) -> None:
            if (verb, resource) == ("patch", stage.plural):
                raise fake_api.Error(403, "cannot patch resource", "", "Forbidden")

        stage.api.fault = fault
    monkeypatch.setattr(Cluster, "owner", lambda _: workflow("second"))
    other = stage.launch()
    other.wait_for("running since")
    if may:
        wait_until(lambda: len(job["metadata"]["ownerReferences"]) == 2)
        assert job["metadata"]["ownerReferences"] == [workflow("first"), workflow("second")]
    else:
        other.wait_for("will be removed with Workflow first, which started it (")
    stage.complete()
    for each in (launched, again, other):
        each.result()


def test_a_lost_answer_to_creation_does_not_make_two_jobs(stage: Stage) -> None:
    lost: list[str] = []

    def lose(verb: str, resource: str) -> None:
        if verb == "create" and resource == stage.plural and not lost:
            lost.append(resource)
            body = {
                "metadata": {
                    "name": stage.name,
                    "uid": "uid-1",
                    "creationTimestamp": fake_api.now(),
                    "annotations": {nodes.IDENTITY: nodes.identity(stage.job)},
                }
            }
            stage.api.objects[stage.plural, stage.name] = body
            raise fake_api.Dropped

    stage.api.fault = lose
    launched = stage.launch()
    launched.wait_for("running since")
    stage.complete()
    launched.result()


# ---- a launching task that is stopped


def start(stage: Stage, tmp_path: Path) -> subprocess.Popen[str]:
    script = (
        "from dkd.launching import launcher\n"
        "from dkd.launching.interface import Job\n"
        "from dkd.scenario.launch import Launch\n"
        f"launcher(Launch(backend={stage.kind!r}, image='train:1', nodes=2)).run(\n"
        f"    Job({stage.name!r}, 'dkd.train', ('--step', '{{}}'), {str(tmp_path / 'result')!r}))"
    )
    return subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


@pytest.fixture
def process(stage: Stage, tmp_path: Path) -> subprocess.Popen[str]:
    process = start(stage, tmp_path)
    stage.created()
    return process


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, -signal.SIGINT)]
)
def test_a_launching_task_that_is_told_to_stop_deletes_the_job(
    stage: Stage, process: subprocess.Popen[str], number: int, status: int
) -> None:
    process.send_signal(number)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == status
    assert "step-1-abc: stopping; deleting the job" in output
    assert stage.api.deleted == [(stage.plural, stage.name)]


def test_a_launching_task_that_is_told_to_stop_before_there_is_a_job_leaves_nothing(
    trainjob: Stage, tmp_path: Path
) -> None:
    def fault(verb: str, resource: str) -> None:
        if (verb, resource) == ("create", "trainjobs"):
            raise misbehaving("503")

    trainjob.api.fault = fault
    process = start(trainjob, tmp_path)
    wait_until(lambda: ("trainingruntimes", trainjob.name) in trainjob.api.objects)
    process.terminate()
    process.communicate(timeout=120)
    assert process.returncode == 143
    assert set(trainjob.api.objects) == {("trainingruntimes", "dkd")}


def test_a_launching_task_that_is_killed_leaves_the_job(
    stage: Stage, process: subprocess.Popen[str]
) -> None:
    process.kill()
    process.communicate()
    assert stage.api.deleted == []
    retry = stage.launch()
    retry.wait_for("running since")
    stage.complete()
    retry.result()


def test_the_image_must_be_named() -> None:
    with pytest.raises(UserError, match=r"^launch\.image: name the training image"):
        launcher(Launch(backend="trainjob"))


# ---- the log


def test_lines_of_one_instant_are_all_printed_once(trainjob: Stage) -> None:
    launched = trainjob.launch()
    trainjob.created()
    pod = trainjob.pod(0)
    trainjob.api.write_log(pod, "a", "b", "c", same_instant=True)
    launched.wait_for("c")
    trainjob.api.write_log(pod, "d", same_instant=True)
    launched.wait_for("d")
    for number in range(25):  # stamps with trailing zeros among them
        trainjob.api.write_log(pod, f"e{number}")
    launched.wait_for("e24")
    trainjob.complete()
    launched.result()
    printed = [line for line in launched.said if not line.startswith("step")]
    assert printed == ["a", "b", "c", "d", *(f"e{number}" for number in range(25))]


def test_only_the_rights_of_the_role_are_used(stage: Stage) -> None:
    """The other direction, that the role has no more, is in test_k8s.py."""
    launched = stage.launch()
    stage.created()
    stage.pod(0, "Pending")
    launched.wait_for("node 0 pending")
    stage.complete()
    launched.result()
    used = set(stage.api.requests)
    assert ("list", stage.plural) not in used
    assert ("get", "secrets") not in used


def test_a_job_someone_deleted_is_not_waited_for(stage: Stage) -> None:
    launched = stage.launch()
    stage.created()
    stage.pod(0)
    launched.wait_for("node 0 running")
    stage.api.end(stage.plural, stage.name)
    assert "was deleted by someone else" in launched.failure()


def test_in_a_pod_the_workflow_is_the_owner(
    trainjob: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = fake_api.pod("the-launching", 0, name="dkd-run-step-1")
    workflow = {"apiVersion": "argoproj.io/v1alpha1", "kind": "Workflow", "name": "run", "uid": "w"}
    made["metadata"]["ownerReferences"] = [{**workflow, "controller": True}]
    trainjob.api.put_pod(made)
    monkeypatch.setenv("HOSTNAME", "dkd-run-step-1")
    cluster = Cluster()
    assert cluster.owner() is None  # on a laptop there is none
    monkeypatch.setattr(cluster, "_in_pod", True)
    assert cluster.owner() == workflow
    monkeypatch.setenv("HOSTNAME", "a-host-name-that-was-cut")
    assert cluster.owner() is None
    monkeypatch.setenv("KFP_POD_NAME", "dkd-run-step-1")
    assert cluster.owner() == workflow
    elsewhere = Cluster("another")
    monkeypatch.setattr(elsewhere, "_in_pod", True)
    assert elsewhere.owner() is None  # owners cannot be in another namespace
