"""The kustomize overlays: they build, fit the schemas, and grant what launching uses."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from cluster_stage import Stage, wait_until
from fake_api import terminated
from kubernetes_schemas import (
    TRAINERS,
    VERSIONS,
    check_core,
    check_custom,
    restricted_violations,
)

from dkd.launching.kubernetes import nodes
from dkd.launching.kubernetes.api import Cluster
from dkd.scenario import form

Object = dict[str, Any]
K8S = Path(__file__).parents[2] / "k8s"
OVERLAYS = sorted(each.name for each in (K8S / "overlays").iterdir())
NAMESPACES = {"kubeflow-profiles": "kubeflow-user-example-com", "cpu-smoke": "dkd-smoke"}


@pytest.fixture(scope="module")
def build(request: pytest.FixtureRequest) -> dict[str, list[Object]]:
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        pytest.skip("kubectl is not installed")
    built = {}
    for overlay in OVERLAYS:
        output = subprocess.run(
            [kubectl, "kustomize", str(K8S / "overlays" / overlay)],
            capture_output=True, text=True, check=True,
        ).stdout  # fmt: skip
        built[overlay] = list(yaml.safe_load_all(output))
    return built


@pytest.fixture(params=OVERLAYS)
def overlay(request: pytest.FixtureRequest, build: dict[str, list[Object]]) -> list[Object]:
    return build[request.param]


def of_kind(objects: list[Object], kind: str) -> Object:
    (found,) = [each for each in objects if each["kind"] == kind]
    return found


def worker_pod(objects: list[Object]) -> Object:
    job_set = of_kind(objects, "TrainingRuntime")["spec"]["template"]["spec"]
    return job_set["replicatedJobs"][0]["template"]["spec"]["template"]["spec"]


def test_every_overlay_of_the_issue_is_there() -> None:
    assert OVERLAYS == [
        "aws-irsa", "cpu-smoke", "gpu", "kfp-standalone", "kubeflow-profiles", "kueue",
    ]  # fmt: skip


@pytest.mark.parametrize("version", VERSIONS)
def test_objects_fit_every_kubernetes(overlay: list[Object], version: str) -> None:
    for each in overlay:
        if "kubeflow.org" not in each["apiVersion"] and "kueue" not in each["apiVersion"]:
            check_core(each, version)
    check_core({"apiVersion": "v1", "kind": "Pod", "spec": worker_pod(overlay)}, version)


@pytest.mark.parametrize("version", TRAINERS)
def test_runtimes_fit_every_trainer(overlay: list[Object], version: str) -> None:
    runtime = of_kind(overlay, "TrainingRuntime")
    check_custom(runtime, f"trainer-{version}-trainingruntimes-v1alpha1")


def test_the_queue_fits_kueue(build: dict[str, list[Object]]) -> None:
    check_custom(of_kind(build["kueue"], "LocalQueue"), "kueue-0.15.0-localqueues-v1beta1")


def test_pods_are_restricted(overlay: list[Object]) -> None:
    assert restricted_violations(worker_pod(overlay)) == []
    (container,) = worker_pod(overlay)["containers"]
    assert container["securityContext"]["readOnlyRootFilesystem"] is True


def test_everything_is_in_one_namespace(build: dict[str, list[Object]]) -> None:
    for overlay, objects in build.items():
        namespace = NAMESPACES.get(overlay, "kubeflow")
        for each in objects:
            where = each["metadata"].get("namespace", each["metadata"]["name"])
            assert where == namespace, (overlay, each["kind"])
        (subject,) = of_kind(objects, "RoleBinding")["subjects"]
        assert subject["namespace"] == namespace, overlay


@pytest.mark.parametrize(
    ("overlay", "account"),
    [
        ("kfp-standalone", "pipeline-runner"),
        ("kubeflow-profiles", "default-editor"),
        ("cpu-smoke", "dkd-launcher"),
    ],
)
def test_the_role_is_bound_to_who_launches(
    build: dict[str, list[Object]], overlay: str, account: str
) -> None:
    (subject,) = of_kind(build[overlay], "RoleBinding")["subjects"]
    assert subject["name"] == account


def test_irsa_has_no_keys(build: dict[str, list[Object]]) -> None:
    text = yaml.safe_dump_all(build["aws-irsa"])
    assert "s3-keys" not in text
    assert "DKD_S3_CREDENTIALS_DIR" not in text
    assert "seaweedfs" not in text


def test_no_secret_is_shipped(overlay: list[Object]) -> None:
    assert "Secret" not in {each["kind"] for each in overlay}
    example = yaml.safe_load((K8S / "secret.example.yaml").read_text())
    assert set(example["stringData"].values()) == {"replace-me"}
    assert example["metadata"]["name"] == form.S3_SECRET


def test_configuration_is_where_workers_look(overlay: list[Object]) -> None:
    assert of_kind(overlay, "ConfigMap")["metadata"]["name"] == nodes.S3_CONFIG_MAP
    (container,) = worker_pod(overlay)["containers"]
    assert container["envFrom"] == [{"configMapRef": {"name": nodes.S3_CONFIG_MAP}}]


def rights(objects: list[Object]) -> set[tuple[str, str]]:
    return {
        (verb, resource)
        for rule in of_kind(objects, "Role")["rules"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


def test_the_role_has_the_rights_that_are_used_and_no_others(
    build: dict[str, list[Object]], stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A life with everything in it: waiting, a death, a failure, a retry, another workflow that
    adopts the job, success.
    """
    monkeypatch.setattr(Cluster, "owner", lambda _: {"kind": "Workflow", "uid": "first"})
    launched = stage.launch(max_restarts=0)
    stage.created()
    launched.wait_for("node 0 not created")
    pod = stage.pod(0)
    stage.api.write_log(pod, "epoch 1")
    launched.wait_for("epoch 1")
    stage.pod(0, "Failed", containers=[terminated(1)])
    stage.condition("Failed")
    launched.failure()
    again = stage.launch()
    again.wait_for("created in namespace")
    monkeypatch.setattr(Cluster, "owner", lambda _: {"kind": "Workflow", "uid": "second"})
    other = stage.launch()
    other.wait_for("running since")
    wait_until(lambda: ("patch", stage.plural) in stage.api.requests)
    stage.complete()
    again.result()
    other.result()
    granted = rights(build["kfp-standalone"])
    used = set(stage.api.requests)
    assert used <= granted
    others = {"pytorchjobs"} if stage.kind == "trainjob" else {"trainjobs", "trainingruntimes"}
    own_pod = {("get", "pods")}  # only inside a pod, to find the workflow
    assert {each for each in granted - used if each[1] not in others} == own_pod


def test_workers_have_no_rights(overlay: list[Object]) -> None:
    bound = [each for each in overlay if each["kind"].endswith("RoleBinding")]
    subjects = [subject["name"] for each in bound for subject in each["subjects"]]
    assert "dkd-worker" not in subjects
    assert worker_pod(overlay)["automountServiceAccountToken"] is False


def test_workers_reach_each_other_dns_and_the_store_only(overlay: list[Object]) -> None:
    policy = of_kind(overlay, "NetworkPolicy")["spec"]
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    labels = nodes.template_labels()
    assert policy["podSelector"]["matchLabels"].items() <= labels.items()
    (ingress,) = policy["ingress"]
    assert ingress["from"] == [{"podSelector": policy["podSelector"]}]
    assert len(policy["egress"]) == 3


def test_comments_name_files_that_exist() -> None:
    for path in K8S.rglob("*.yaml"):
        for name in re.findall(r"src/dkd/[\w/]+\.py", path.read_text()):
            assert (K8S.parent / name).exists(), (path, name)
