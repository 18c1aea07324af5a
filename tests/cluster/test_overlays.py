"""Each overlay on a real cluster: applied, enough for a job, and no more than that."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from commands import apply, get, kubectl
from namespaces import ROOT, copy_keys

ACCOUNTS = {
    "cpu-smoke": "dkd-launcher",
    "kfp-standalone": "pipeline-runner",
    "kubeflow-profiles": "default-editor",
    "gpu": "pipeline-runner",
    "aws-irsa": "pipeline-runner",
    "kueue": "pipeline-runner",
}
"""The account that launches jobs, by overlay."""

OFFERED = {"LocalQueue": "localqueues.kueue.x-k8s.io"}
"""Kinds that not every cluster has."""


def test_there_are_no_other_overlays() -> None:
    assert set(ACCOUNTS) == {path.name for path in (ROOT / "k8s/overlays").iterdir()}


@pytest.fixture(scope="module", params=sorted(ACCOUNTS))
def overlay(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Any]:
    """The overlay's name and a namespace that enforces *restricted*, where it has been applied with
    a quota and a limit range.

    The namespace is a copy's: the real one may hold a real Kubeflow.
    """
    name = request.param
    namespace = f"dkd-overlay-{name}"
    copy = tmp_path_factory.mktemp("k8s") / "k8s"
    shutil.copytree(ROOT / "k8s", copy)
    for file in copy.glob("overlays/*/*.yaml"):
        text = file.read_text()
        for old in ("kubeflow-user-example-com", "kubeflow", "dkd-smoke"):
            text = text.replace(f"namespace: {old}\n", f"namespace: {namespace}\n")
            text = text.replace(f"name: {old}\n", f"name: {namespace}\n")
        file.write_text(text)
    folder = copy / "overlays" / name
    more = yaml.safe_load((folder / "kustomization.yaml").read_text())
    more["components"] = [*more.get("components", []), "../../components/quota"]
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(more))
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    apply(
        {
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": {"name": namespace, "labels": labels},
        },
        {
            "apiVersion": "v1",
            "kind": "ServiceAccount",
            "metadata": {"name": ACCOUNTS[name], "namespace": namespace},
        },
    )
    copy_keys(namespace)
    kubectl("apply", "-f", "-", stdin=_rendered(copy / "overlays" / name))
    yield name, namespace
    kubectl("delete", "namespace", namespace, "--wait=false")


def _rendered(folder: Path) -> str:
    """The overlay's objects, without those whose kind this cluster does not know."""
    documents = kubectl("kustomize", str(folder)).split("\n---\n")
    unknown = [
        kind
        for kind, crd in OFFERED.items()
        if not kubectl("get", "crd", crd, "--ignore-not-found", "-o", "name").strip()
    ]
    kept = [each for each in documents if not any(f"kind: {kind}\n" in each for kind in unknown)]
    return "\n---\n".join(kept)


def offered(pod: dict[str, Any], namespace: str) -> str:
    """What the server says to a pod, which it does not make."""
    wanted = {"apiVersion": "v1", "kind": "Pod", **pod}
    wanted["metadata"] = {**pod.get("metadata", {}), "name": "offered"}
    arguments = ("create", "--dry-run=server", "-n", namespace, "-f", "-")
    return kubectl(*arguments, stdin=json.dumps(wanted), check=False)


def test_workers_are_admitted(overlay: tuple[str, str], training_image: str) -> None:
    """The runtime's own pod passes Pod Security, the limit range and the quota."""
    _, namespace = overlay
    runtime = get("trainingruntime", "dkd", namespace)
    assert runtime
    (node,) = runtime["spec"]["template"]["spec"]["replicatedJobs"]
    template = node["template"]["spec"]["template"]
    template["spec"]["containers"][0]["image"] = training_image
    said = offered(template, namespace)
    assert "pod/offered created (server dry run)" in said, said
    del template["spec"]["containers"][0]["securityContext"]["capabilities"]
    assert "violates PodSecurity" in offered(template, namespace)
    huge = {"requests": {"cpu": "7", "memory": "1Ti"}, "limits": {"cpu": "8", "memory": "1Ti"}}
    template["spec"]["containers"][0]["resources"] = huge
    template["spec"]["containers"][0]["securityContext"]["capabilities"] = {"drop": ["ALL"]}
    assert "exceeded quota: dkd" in offered(template, namespace)


def test_pods_that_say_no_limits_are_admitted(overlay: tuple[str, str]) -> None:
    """Such as Kubeflow Pipelines' drivers and Argo's containers are."""
    _, namespace = overlay
    context = {
        "allowPrivilegeEscalation": False,
        "runAsNonRoot": True,
        "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    containers = [
        {"name": name, "image": "any", "securityContext": context} for name in ("main", "wait")
    ]
    said = offered({"spec": {"containers": containers}}, namespace)
    assert "pod/offered created (server dry run)" in said, said


NEEDED = {
    *((verb, "trainjobs.trainer.kubeflow.org") for verb in ("create", "get", "patch", "delete")),
    *(
        (verb, "trainingruntimes.trainer.kubeflow.org")
        for verb in ("create", "get", "patch", "delete")
    ),
    *((verb, "pytorchjobs.kubeflow.org") for verb in ("create", "get", "patch", "delete")),
    *((verb, "pods") for verb in ("get", "list", "watch")),
    ("get", "pods/log"),
    ("list", "events"),
}
VERBS = ("create", "get", "list", "watch", "update", "patch", "delete", "deletecollection")
RESOURCES = (
    "trainjobs.trainer.kubeflow.org",
    "trainingruntimes.trainer.kubeflow.org",
    "clustertrainingruntimes.trainer.kubeflow.org",
    "pytorchjobs.kubeflow.org",
    "jobsets.jobset.x-k8s.io",
    "jobs.batch",
    "pods",
    "pods/log",
    "pods/exec",
    "pods/eviction",
    "events",
    "secrets",
    "configmaps",
    "services",
    "serviceaccounts",
    "serviceaccounts/token",
    "namespaces",
    "nodes",
    "roles.rbac.authorization.k8s.io",
    "rolebindings.rbac.authorization.k8s.io",
    "resourcequotas",
    "networkpolicies.networking.k8s.io",
)


def rights(account: str, namespace: str) -> set[tuple[str, str]]:
    """Which verbs on which of the resources the server grants to an account."""
    asked = [(verb, resource) for resource in RESOURCES for verb in VERBS]
    reviews = [json.dumps(_review(account, namespace, *each)) for each in asked]
    answers = kubectl(
        "create", "-f", "-", "-o", 'jsonpath={.status.allowed}{" "}', stdin="\n---\n".join(reviews)
    ).split()
    return {each for each, answer in zip(asked, answers, strict=True) if answer == "true"}


def _review(
    account: str, namespace: str, verb: str, resource: str, *, name: str = ""
) -> dict[str, Any]:
    kind, _, group = resource.partition(".")
    kind, _, subresource = kind.partition("/")
    return {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SubjectAccessReview",
        "spec": {
            "user": f"system:serviceaccount:{namespace}:{account}",
            "groups": ["system:serviceaccounts", f"system:serviceaccounts:{namespace}"],
            "resourceAttributes": {
                "namespace": namespace,
                "verb": verb,
                "group": group,
                "resource": kind,
                "subresource": subresource,
                "name": name,
            },
        },
    }


def test_the_launching_account_has_the_roles_rights_and_no_others(overlay: tuple[str, str]) -> None:
    name, namespace = overlay
    assert rights(ACCOUNTS[name], namespace) == NEEDED


def test_a_runs_own_account_may_launch_too(overlay: tuple[str, str]) -> None:
    name, namespace = overlay
    assert rights("dkd-launcher", namespace) == NEEDED
    reviews = [
        _review("dkd-launcher", namespace, *each, name=object_name)
        for each, object_name in (
            (("get", "secrets"), "mlpipeline-minio-artifact"),
            (("get", "secrets"), "another"),
            (("get", "workflows.argoproj.io"), "any"),
            (("create", "workflowtaskresults.argoproj.io"), ""),
        )
    ]
    answers = kubectl(
        "create", "-f", "-", "-o", 'jsonpath={.status.allowed}{" "}',
        stdin="\n---\n".join(json.dumps(each) for each in reviews),
    ).split()  # fmt: skip
    runs = name != "cpu-smoke"  # which is no place for a run of Kubeflow Pipelines
    assert [each == "true" for each in answers] == [runs, False, runs, runs]


def test_workers_have_no_right(overlay: tuple[str, str]) -> None:
    _, namespace = overlay
    assert rights("dkd-worker", namespace) == set()
