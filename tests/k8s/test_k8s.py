"""The kustomize overlays: they build, fit the schemas, and grant what launching uses."""

import json
import os
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
from dkd.pipelines import policy
from dkd.scenario import form

Object = dict[str, Any]
K8S = Path(__file__).parents[2] / "k8s"
OVERLAYS = sorted(each.name for each in (K8S / "overlays").iterdir())
NAMESPACES = {"kubeflow-profiles": "kubeflow-user-example-com", "cpu-smoke": "dkd-smoke"}


@pytest.fixture(scope="module")
def build() -> dict[str, list[Object]]:
    return {overlay: kustomized(K8S / "overlays" / overlay) for overlay in OVERLAYS}


@pytest.fixture(params=OVERLAYS)
def overlay(request: pytest.FixtureRequest, build: dict[str, list[Object]]) -> list[Object]:
    return build[request.param]


def of_kind(objects: list[Object], kind: str, name: str = "") -> Object:
    """The one object of a kind, and of a name where there are several."""
    (found,) = [
        each for each in objects if each["kind"] == kind and name in ("", each["metadata"]["name"])
    ]
    return found


def kustomized(folder: Path) -> list[Object]:
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        pytest.skip("kubectl is not installed")
    output = subprocess.run(
        [kubectl, "kustomize", str(folder)], capture_output=True, text=True, check=True
    ).stdout
    return list(yaml.safe_load_all(output))


def own_overlay(folder: Path, resource: str, *components: str, **more: Any) -> list[Object]:
    """What an administrator's own overlay makes of one of k8s/ and components."""
    folder.mkdir()
    overlay = {
        "namespace": "team",
        "resources": [os.path.relpath(K8S / resource, folder.resolve())],
        "components": [
            os.path.relpath(K8S / "components" / each, folder.resolve()) for each in components
        ],
        **more,
    }
    (folder / "kustomization.yaml").write_text(json.dumps(overlay))
    return kustomized(folder)


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
        for binding in (each for each in objects if each["kind"] == "RoleBinding"):
            for subject in binding["subjects"]:
                assert subject["namespace"] == namespace, overlay


@pytest.mark.parametrize(
    ("overlay", "accounts"),
    [
        ("kfp-standalone", ["dkd-launcher", "pipeline-runner"]),
        ("kubeflow-profiles", ["dkd-launcher", "default-editor"]),
        ("cpu-smoke", ["dkd-launcher"]),
    ],
)
def test_the_role_is_bound_to_who_launches(
    build: dict[str, list[Object]], overlay: str, accounts: list[str]
) -> None:
    subjects = of_kind(build[overlay], "RoleBinding", "dkd-launcher")["subjects"]
    assert [subject["name"] for subject in subjects] == accounts


def test_a_run_may_have_an_account_of_its_own(build: dict[str, list[Object]]) -> None:
    """Beside launching it may do what Kubeflow Pipelines and Argo do in a run's pods: no more."""
    for overlay in ("kfp-standalone", "kubeflow-profiles"):
        (subject,) = of_kind(build[overlay], "RoleBinding", "dkd-pipeline-run")["subjects"]
        assert subject["name"] == "dkd-launcher"
        rules = of_kind(build[overlay], "Role", "dkd-pipeline-run")["rules"]
        granted = {
            (verb, resource, *rule.get("resourceNames", []))
            for rule in rules
            for resource in rule["resources"]
            for verb in rule["verbs"]
        }
        assert granted == {
            ("create", "workflowtaskresults"),
            ("patch", "workflowtaskresults"),
            ("get", "workflows"),
            ("get", "pods"),
            ("get", "configmaps", "kfp-launcher"),
            ("get", "secrets", form.S3_SECRET),
        }


def test_both_accounts_take_the_role_with_irsa(build: dict[str, list[Object]]) -> None:
    accounts = [each for each in build["aws-irsa"] if each["kind"] == "ServiceAccount"]
    assert {each["metadata"]["name"] for each in accounts} == {"dkd-worker", "dkd-launcher"}
    for each in accounts:
        assert "eks.amazonaws.com/role-arn" in each["metadata"]["annotations"]


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
    assert of_kind(overlay, "ConfigMap", nodes.S3_CONFIG_MAP)
    (container,) = worker_pod(overlay)["containers"]
    assert container["envFrom"] == [{"configMapRef": {"name": nodes.S3_CONFIG_MAP}}]


def rights(objects: list[Object]) -> set[tuple[str, str]]:
    return {
        (verb, resource)
        for rule in of_kind(objects, "Role", "dkd-launcher")["rules"]
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


DNS = {("kube-system", protocol, port) for protocol in ("UDP", "TCP") for port in (53, 1053)}
STORE = {("kubeflow", "TCP", 8333), ("kubeflow", "TCP", 9000)}
ANYWHERE = "anywhere"


def policies(objects: list[Object], labels: dict[str, str]) -> list[Object]:
    """The network policies that choose a pod; they add up."""
    return [
        each["spec"]
        for each in objects
        if each["kind"] == "NetworkPolicy"
        and each["spec"]["podSelector"]["matchLabels"].items() <= labels.items()
    ]


def reached(objects: list[Object], labels: dict[str, str]) -> set[tuple[str, str, object]]:
    """Where a pod may connect to: namespace, or labels of pods; protocol and port, "" for any."""
    chosen = policies(objects, labels)
    assert any("Egress" in each["policyTypes"] for each in chosen)
    found = set()
    for rule in (rule for each in chosen for rule in each.get("egress", [])):
        for peer in rule.get("to", [{}]):
            where = ANYWHERE
            if "namespaceSelector" in peer:
                (where,) = peer["namespaceSelector"]["matchLabels"].values()
            elif "podSelector" in peer:
                where = peer["podSelector"]["matchLabels"]["app.kubernetes.io/component"]
            for port in rule.get("ports", [{"protocol": "", "port": ""}]):
                found.add((where, port["protocol"], port["port"]))
    return found


def test_workers_reach_each_other_dns_and_the_store_only(overlay: list[Object]) -> None:
    outside = "seaweedfs" not in yaml.safe_dump_all(overlay)
    store = {(ANYWHERE, "TCP", 443)} if outside else STORE
    assert reached(overlay, nodes.labels("worker")) == {("worker", "", ""), *DNS, *store}
    (ingress,) = (
        rule
        for each in policies(overlay, nodes.labels("worker"))
        for rule in each.get("ingress", [])
    )
    assert ingress == {"from": [{"podSelector": {"matchLabels": nodes.labels("worker")}}]}


def test_components_are_reached_by_nobody(overlay: list[Object]) -> None:
    """They reach DNS, the store, Kubeflow Pipelines and the API server, which no selector names."""
    chosen = policies(overlay, nodes.labels("launcher"))
    assert any("Ingress" in each["policyTypes"] for each in chosen)
    assert not [rule for each in chosen for rule in each.get("ingress", [])]
    there = reached(overlay, nodes.labels("launcher"))
    assert there - STORE == {
        ("kubeflow", "", ""), *DNS, (ANYWHERE, "TCP", 443), (ANYWHERE, "TCP", 6443),
    }  # fmt: skip


def test_the_networks_names_and_ports_are_settings(tmp_path: Path) -> None:
    literals = {
        "api-server-port": "16443",
        "dns-namespace": "openshift-dns",
        "dns-port": "5353",
        "kubeflow-namespace": "kfp",
        "store-namespace": "minio",
        "store-port": "9001",
        "store-service-port": "80",
    }
    shipped = yaml.safe_load((K8S / "base/network-settings.yaml").read_text())["data"]
    assert shipped.keys() == literals.keys()
    objects = own_overlay(
        tmp_path / "own",
        "overlays/kfp-standalone",
        "network-settings",
        configMapGenerator=[
            {
                "name": "dkd-network",
                "behavior": "merge",
                "literals": [f"{key}={value}" for key, value in literals.items()],
                "options": {"disableNameSuffixHash": True},
            }
        ],
    )
    text = yaml.safe_dump_all(each for each in objects if each["kind"] == "NetworkPolicy")
    assert "kube-system" not in text
    assert "kubeflow" not in text
    dns = {("openshift-dns", protocol, port) for protocol in ("UDP", "TCP") for port in (53, 5353)}
    store = {("minio", "TCP", 9001), ("minio", "TCP", 80)}
    assert reached(objects, nodes.labels("worker")) == {("worker", "", ""), *dns, *store}
    assert reached(objects, nodes.labels("launcher")) >= {
        ("kfp", "", ""), (ANYWHERE, "TCP", 16443),
    }  # fmt: skip
    for each in objects:
        if each["kind"] == "NetworkPolicy":
            check_core(each, VERSIONS[-1])


# ---- requests, limits, quotas


def quantity(text: str) -> float:
    number, unit = re.fullmatch(r"([0-9.]+)([A-Za-z]*)", text).groups()
    powers = {"": 1, "m": 1e-3, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}
    return float(number) * powers[unit]


@pytest.mark.parametrize("overlay_name", OVERLAYS)
def test_every_overlay_fits_a_quota(overlay_name: str, tmp_path: Path) -> None:
    """Every pod says what the quota counts, itself or by the limit range, within its own limits."""
    objects = own_overlay(tmp_path / "own", f"overlays/{overlay_name}", "serving", "quota")
    (limits,) = of_kind(objects, "LimitRange")["spec"]["limits"]
    hard = of_kind(objects, "ResourceQuota")["spec"]["hard"]
    (container,) = worker_pod(objects)["containers"]
    (server,) = of_kind(objects, "Deployment")["spec"]["template"]["spec"]["containers"]
    doctor = yaml.safe_load((K8S / "doctor.yaml").read_text())["spec"]["containers"][0]
    alone = [each.get("resources", {}) for each in (container, server, doctor)]
    components = [
        {
            "requests": {"cpu": each.cpu[0], "memory": each.memory[0]},
            "limits": {"cpu": each.cpu[1], "memory": each.memory[1]},
        }
        for each in (policy.PREPARING, policy.LAUNCHING, policy.REPORTING)
    ]
    for resources in ({}, *components, *alone):
        has = {
            "limits": {**limits["default"], **resources.get("limits", {})},
            "requests": {**limits["defaultRequest"], **resources.get("requests", {})},
        }
        for counted in (each for each in hard if "." in each):
            kind, name = counted.split(".")
            assert quantity(has[kind][name]) <= quantity(hard[counted])
        for name, limit in has["limits"].items():
            assert quantity(has["requests"][name]) <= quantity(limit)
    for kind in ("LimitRange", "ResourceQuota"):
        check_core(of_kind(objects, kind), VERSIONS[0])


def test_workers_request_what_they_use_and_scratch_has_an_end(overlay: list[Object]) -> None:
    pod = worker_pod(overlay)
    (container,) = pod["containers"]
    assert {"cpu", "memory", "ephemeral-storage"} <= container["resources"]["requests"].keys()
    sizes = {each["name"]: each["emptyDir"].get("sizeLimit") for each in pod["volumes"]
             if "emptyDir" in each}  # fmt: skip
    assert sizes["scratch"]
    assert sizes["shared-memory"]


def test_comments_name_files_that_exist() -> None:
    for path in K8S.rglob("*.yaml"):
        for name in re.findall(r"src/dkd/[\w/]+\.py", path.read_text()):
            assert (K8S.parent / name).exists(), (path, name)
