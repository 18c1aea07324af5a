"""Bad input on a cluster: one line within 30 s, with the object's name and the next command."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from commands import (
    apply,
    delete,
    get,
    get_all,
    has_hooks,
    hook,
    kubectl,
    run_in,
    wait_until,
)
from namespaces import ACCOUNT, apply_base, copy_keys
from tasks import Task, Tasks

from dkd.errors import UserError
from dkd.launching import launcher
from dkd.launching.interface import Job
from dkd.scenario.schema import Scenario
from dkd.steps import stages

SOON = 30.0
"""Seconds within which the launching task must say what the cluster knows."""

BEFORE = 15.0
"""Seconds until the cluster knows it, the start of the component included."""


def namespace_with(name: str, labels: dict[str, str], folder: Path) -> str:
    kubectl("delete", "namespace", name, "--ignore-not-found", "--wait=false")
    gone = ("get", "namespace", name, "--ignore-not-found", "-o", "name")
    wait_until(lambda: not kubectl(*gone).strip(), 300, f"the end of an earlier {name}")
    metadata = {"name": name, "labels": labels}
    apply({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})
    apply_base(name, folder)
    copy_keys(name)
    return name


@pytest.fixture(scope="module")
def poor(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A namespace for these tests to spoil."""
    restricted = {"pod-security.kubernetes.io/enforce": "restricted"}
    yield namespace_with("dkd-poor", restricted, tmp_path_factory.mktemp("overlay"))
    kubectl("delete", "namespace", "dkd-poor", "--wait=false")


@pytest.fixture
def launch(tasks: Tasks, scenario: Scenario, poor: str, store: str) -> Any:
    """Launches a step whose launching is wrong in some way."""
    launched: list[Task] = []

    def launch(
        account: str = ACCOUNT, *, training: Mapping[str, Any] | None = None, **settings: Any
    ) -> Task:
        dotted = {f"launch.{key}": value for key, value in settings.items()}
        dotted |= {f"training.{key}": value for key, value in (training or {}).items()}
        run = f"bad-{time.time_ns()}"
        root = f"{store}/{run}"  # a quota that is lifted lets its job succeed
        task = tasks.inside(poor, account).start(
            "step",
            scenario=stages.write_resolved(root, run, scenario.override(dotted)),
            task=[list(names) for names in scenario.task],
            step=0.0,
            dataset=scenario.data.root,
            artifact_root=root,
            run_name=run,
            teacher="",
            memory="",
        )
        launched.append(task)
        return task

    yield launch
    for task in launched:
        delete("pod", task.name, task.namespace, "--now", "--wait=true")
    if get("crd", "trainjobs.trainer.kubeflow.org", poor):
        kubectl("delete", "trainjobs", "--all", "-n", poor, "--wait=false")
        wait_until(lambda: not get_all("trainjobs", poor), 60, "the end of the test's jobs")


def said(task: Task, words: str) -> str:
    """What the launching task says, within the time it has."""
    wait_until(lambda: task.phase != "Pending", 120, "the launching pod's start")
    return task.wait_for(words, SOON + BEFORE)


# ---- refused by the API server


def test_a_namespace_that_is_missing(scenario: Scenario) -> None:
    """For one who may look at namespaces; a pod's account may not, and is told so below."""
    launch = scenario.launch.model_copy(update={"namespace": "nowhere"})
    with pytest.raises(UserError, match="namespace nowhere does not exist; kubectl get namesp"):
        launcher(launch).run(Job("bad-1", "dkd.train", (), "s3://mlpipeline/none"))


@pytest.mark.parametrize("namespace", ["nowhere", "default"])
def test_a_namespace_without_the_role(launch: Any, namespace: str) -> None:
    message = launch(namespace=namespace).failure()
    assert 'cannot get resource "trainjobs"' in message
    assert "apply k8s/ to this namespace (does it exist?)" in message
    assert f"kubectl auth can-i create trainjobs.trainer.kubeflow.org -n {namespace}" in message


def test_an_account_without_the_role(launch: Any) -> None:
    message = launch(account="default").failure()
    assert '"system:serviceaccount:dkd-poor:default" cannot get resource "trainjobs"' in message
    assert "apply k8s/ to this namespace (does it exist?), which binds its role" in message


def test_a_runtime_that_is_missing(launch: Any) -> None:
    message = launch(runtime="absent").failure()
    assert "namespace dkd-poor has no TrainingRuntime absent: apply k8s/ to it" in message


def test_a_quota_of_jobs(launch: Any, poor: str) -> None:
    with existing(poor, quota("few-jobs", {"count/trainjobs.trainer.kubeflow.org": "0"})):
        wait_until(lambda: get("resourcequota", "few-jobs", poor)["status"].get("hard"), 30, "it")
        message = launch().failure()
    assert "quota few-jobs is exceeded (requested: count/trainjobs" in message
    (runtime,) = get_all("trainingruntimes", poor)  # the shipped one: none is left of the job's own
    assert runtime["metadata"]["name"] == "dkd"
    assert "kubectl describe quota few-jobs -n dkd-poor" in message


# ---- pods that are not created or do not start


def test_a_service_account_that_is_missing(launch: Any) -> None:
    line = said(launch(service_account="nobody"), "service account nobody")
    assert "does not exist in namespace dkd-poor: apply k8s/, or set launch.service_account" in line


def test_a_quota_of_memory(launch: Any, poor: str) -> None:
    with existing(poor, quota("little", {"requests.memory": "2Gi"})):
        wait_until(lambda: get("resourcequota", "little", poor)["status"].get("hard"), 30, "it")
        line = said(launch(), "quota little is exceeded")
    assert "requests.memory=3Gi" in line
    assert line.endswith("kubectl describe quota little -n dkd-poor")


def test_pod_security(launch: Any) -> None:
    """A PyTorchJob's operator adds a container that the standard does not allow."""
    line = said(launch(backend="pytorchjob"), "refuses the job's pods")
    assert 'violates PodSecurity "restricted' in line
    assert 'container "init-pytorch"' in line
    assert line.endswith("kubectl get namespace dkd-poor --show-labels")


def test_an_image_that_cannot_be_pulled(launch: Any, training_image: str) -> None:
    absent = training_image.split("/")[0] + "/dkd-absent:1"
    line = said(launch(image=absent), f"image {absent} cannot be pulled")
    assert "kubectl describe pod" in line


def test_no_gpus_and_then_the_deadline(launch: Any) -> None:
    task = launch(gpus_per_node=2, deadline=60)
    line = said(task, "waits for lack of nvidia.com/gpu since 20")
    assert "Insufficient nvidia.com/gpu" in line
    message = task.failure()
    assert "passed its deadline (launch.deadline=60 s) and was deleted" in message
    assert "for lack of nvidia.com/gpu since" in message
    wait_until(lambda: not get_all("trainjobs", "dkd-poor"), 30, "the job's end")


def test_a_secret_that_is_missing(launch: Any) -> None:
    line = said(launch(secret="absent"), 'secret "absent" not found')
    assert "kubectl describe pod" in line


# ---- ranks that cannot go on


def test_a_bucket_that_workers_cannot_write(launch: Any, poor: str) -> None:
    metadata = {"name": "wrong-keys", "namespace": poor}
    keys = {"accesskey": "nobody", "secretkey": "nothing"}
    with existing(
        poor, {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": keys}
    ):
        message = launch(secret="wrong-keys").failure(180)
    assert len(message.splitlines()) == 1
    assert "s3://mlpipeline" in message


def test_a_training_that_diverges(launch: Any, poor: str) -> None:
    message = launch(training={"lr.first": 1e9}).failure(180)
    assert len(message.splitlines()) == 1
    assert "training.lr: the loss is no longer finite at iteration" in message
    wait_until(lambda: not get_all("trainjobs", poor), 30, "the job's end")


def test_a_rank_out_of_memory(launch: Any) -> None:
    message = launch(memory="400Mi", shared_memory="64Mi", max_restarts=0).failure(180)
    assert "ran out of memory (limit 400Mi); kubectl logs" in message


def test_an_evicted_worker(launch: Any, poor: str) -> None:
    limits = {"limits": [{"type": "Container", "default": {"ephemeral-storage": "8Mi"}}]}
    metadata = {"name": "small-disk", "namespace": poor}
    with existing(
        poor, {"apiVersion": "v1", "kind": "LimitRange", "metadata": metadata, "spec": limits}
    ):
        longer = {"epochs.first": 200}  # than the kubelet needs to look
        task = launch(training=longer, scratch="", max_restarts=0)
        job = task.wait_for("node 0 running", 180).split(":")[0]
        (victim,) = (
            each["metadata"]["name"]
            for each in get_all("pods", poor, f"jobset.sigs.k8s.io/jobset-name={job}")
            if each["metadata"]["labels"]["batch.kubernetes.io/job-completion-index"] == "0"
        )
        fill = "import time; open('/tmp/large', 'wb').write(bytes(30 << 20)); time.sleep(60)"
        run_in(victim, "node", poor, "python3", "-c", fill, check=False)
        wait_until(
            lambda: (get("pod", victim, poor) or {}).get("status", {}).get("phase") == "Failed",
            150,
            "the eviction",
        )
        task.wait_for("was evicted from", SOON)
        message = task.failure(180)  # its peer may take its whole grace
    assert "was evicted from" in message
    assert "ephemeral" in message


# ---- no operator; last, because Trainer needs a while to see that its resource is back

REMOVE, RESTORE = "DKD_TEST_REMOVE_TRAINER", "DKD_TEST_RESTORE_TRAINER"


@pytest.mark.skipif(not has_hooks([REMOVE, RESTORE]), reason=f"{REMOVE} is not set")
def test_an_operator_that_is_not_installed(launch: Any) -> None:
    hook(REMOVE)
    try:
        message = launch().failure()
    finally:
        hook(RESTORE)
    assert message.endswith(
        "this cluster has no trainjobs.trainer.kubeflow.org: install Kubeflow Trainer v2, or "
        "choose another launch.backend; kubectl get crd trainjobs.trainer.kubeflow.org"
    )
    assert len(message.splitlines()) == 1


@contextmanager
def existing(namespace: str, thing: dict[str, Any]) -> Iterator[None]:
    apply({**thing, "metadata": {**thing["metadata"], "namespace": namespace}})
    try:
        yield
    finally:
        delete(thing["kind"], thing["metadata"]["name"], namespace)


def quota(name: str, hard: dict[str, str]) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": name},
        "spec": {"hard": hard},
    }
