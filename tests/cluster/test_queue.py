"""A job in a queue of Kueue: its reason to wait is said, it is admitted whole and counted right."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from commands import apply, delete, get, kubectl, wait_until
from namespaces import ROOT, apply_base, copy_keys
from tasks import Tasks

from dkd.scenario.schema import Scenario
from dkd.steps import stages
from dkd.storage import artifacts

CRD = "clusterqueues.kueue.x-k8s.io"


@pytest.fixture(scope="module")
def administrators() -> Iterator[list[dict[str, Any]]]:
    """The example's cluster queue, with a flavor of its own."""
    if not kubectl("get", "crd", CRD, "--ignore-not-found", "-o", "name").strip():
        pytest.skip("Kueue is not installed")
    if kubectl("get", CRD, "dkd", "--ignore-not-found", "-o", "name").strip():
        pytest.skip("there is a ClusterQueue dkd already")
    text = (ROOT / "k8s/components/kueue/cluster-queue.example.yaml").read_text()
    objects = list(yaml.safe_load_all(text.replace("name: default\n", "name: dkd-test\n")))
    apply(*objects)
    yield objects
    for each in reversed(objects):
        kubectl("delete", each["kind"], each["metadata"]["name"], "--ignore-not-found")


@pytest.fixture(scope="module")
def namespace(
    administrators: list[dict[str, Any]], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    name = "dkd-queue"
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}})
    apply_base(name, tmp_path_factory.mktemp("overlay"), "kueue")
    copy_keys(name)
    yield name
    kubectl("delete", "namespace", name, "--timeout=90s")


def set_quota(queue: dict[str, Any], memory: str) -> None:
    changed = json.loads(json.dumps(queue))
    (group,) = changed["spec"]["resourceGroups"]
    (flavor,) = group["flavors"]
    next(x for x in flavor["resources"] if x["name"] == "memory")["nominalQuota"] = memory
    apply(changed)


def test_a_job_waits_for_the_quota_of_all_its_nodes(
    administrators: list[dict[str, Any]],
    namespace: str,
    tasks: Tasks,
    scenario: Scenario,
    store: str,
) -> None:
    queue = next(each for each in administrators if each["kind"] == "ClusterQueue")
    set_quota(queue, "2Gi")  # one node of 1500Mi would fit
    queued = scenario.override(
        {"launch.queue": "dkd", "launch.memory": "1500Mi", "launch.processes_per_node": 1}
    )
    task = tasks.inside(namespace).start(
        "step",
        scenario=stages.write_resolved(f"{store}/queue", "queue", queued),
        task=[list(names) for names in queued.task],
        step=0.0,
        dataset=queued.data.root,
        artifact_root=f"{store}/queue",
        run_name="queue",
        teacher="",
        memory="",
    )
    try:
        line = task.wait_for("the job waits in queue dkd since 20", 60)
        name = line.split(":")[0]
        why = task.wait_for("insufficient quota for memory", 45)
        assert why.endswith(f"kubectl get workloads -n {namespace}")
        set_quota(queue, "4Gi")
        task.wait_for("node 1 running", 90)
        status = get("clusterqueue", "dkd", namespace)["status"]
        assert status["admittedWorkloads"] == 1
        (flavor,) = status["flavorsUsage"]
        used = {each["name"]: each["total"] for each in flavor["resources"]}
        assert used == {"cpu": "200m", "memory": "3000Mi"}  # both nodes
        assert artifacts.find(task.result()["checkpoint"])
        assert "not created" not in task.log.partition(why)[0]  # silent about pods while it waits
    finally:
        delete("pod", task.name, namespace, "--wait=false")
    wait_until(lambda: get("trainjob", name, namespace) is None, 30, "the job's end")
