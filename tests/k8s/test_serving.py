"""The component that serves a model: it builds, fits the schemas, and is restricted."""

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes_schemas import VERSIONS, check_core, restricted_violations

K8S = Path(__file__).parents[2] / "k8s"
Object = dict[str, Any]


def built(folder: Path, *components: str) -> dict[str, Object]:
    """Objects of serving, by kind, in an overlay such as an administrator writes."""
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        pytest.skip("kubectl is not installed")
    folder = folder.resolve()
    overlay = {
        "namespace": "street",
        "resources": [os.path.relpath(K8S / "base", folder)],
        "components": [os.path.relpath(K8S / "components" / each, folder) for each in components],
    }
    (folder / "kustomization.yaml").write_text(json.dumps(overlay))
    text = subprocess.run(
        [kubectl, "kustomize", str(folder)], capture_output=True, text=True, check=True
    ).stdout
    found = [each for each in yaml.safe_load_all(text) if each["metadata"]["name"] == "dkd-serving"]
    return {each["kind"]: each for each in found}


@pytest.fixture(scope="module")
def objects(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Object]:
    return built(tmp_path_factory.mktemp("overlay"), "serving")


def test_everything_is_there(objects: dict[str, Object]) -> None:
    assert set(objects) == {
        "Deployment", "Service", "HorizontalPodAutoscaler", "PodDisruptionBudget", "NetworkPolicy",
        "ServiceAccount",
    }  # fmt: skip


@pytest.mark.parametrize("version", VERSIONS)
def test_objects_fit_every_kubernetes(objects: dict[str, Object], version: str) -> None:
    for each in objects.values():
        check_core(each, version)


def test_pods_are_restricted_and_chosen(objects: dict[str, Object]) -> None:
    template = objects["Deployment"]["spec"]["template"]
    assert restricted_violations(template["spec"]) == []
    (container,) = template["spec"]["containers"]
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    labels = template["metadata"]["labels"].items()
    assert objects["Service"]["spec"]["selector"].items() <= labels
    for kind, field in (("PodDisruptionBudget", "selector"), ("NetworkPolicy", "podSelector")):
        assert objects[kind]["spec"][field]["matchLabels"].items() <= labels


def test_kserves_variant_has_the_same_settings(objects: dict[str, Object]) -> None:
    service = yaml.safe_load((K8S / "kserve.example.yaml").read_text())
    (theirs,) = service["spec"]["predictor"]["containers"]
    (ours,) = objects["Deployment"]["spec"]["template"]["spec"]["containers"]
    for field in ("envFrom", "resources", "securityContext", "volumeMounts"):
        assert theirs[field] == ours[field]
    names = [[each["name"] for each in container["env"]] for container in (theirs, ours)]
    assert names[0] == names[1]


def test_kserves_variant_has_a_restricted_pod() -> None:
    service = yaml.safe_load((K8S / "kserve.example.yaml").read_text())
    assert (service["apiVersion"], service["kind"]) == (
        "serving.kserve.io/v1beta1",
        "InferenceService",
    )
    predictor = service["spec"]["predictor"]
    pod = {k: v for k, v in predictor.items() if k not in ("minReplicas", "maxReplicas")}
    assert restricted_violations(pod) == []
    for version in VERSIONS:
        check_core({"apiVersion": "v1", "kind": "Pod", "spec": pod}, version)


def test_the_server_has_an_account_and_no_more_disk_than_it_says(
    objects: dict[str, Object],
) -> None:
    spec = objects["Deployment"]["spec"]["template"]["spec"]
    assert spec["serviceAccountName"] == objects["ServiceAccount"]["metadata"]["name"]
    assert objects["ServiceAccount"]["automountServiceAccountToken"] is False
    (container,) = spec["containers"]
    assert {"cpu", "memory", "ephemeral-storage"} <= container["resources"]["requests"].keys()
    volumes = {each["name"]: each for each in spec["volumes"]}
    assert volumes["scratch"]["emptyDir"]["sizeLimit"]


def test_with_a_role_the_server_needs_no_keys(tmp_path: Path) -> None:
    found = built(tmp_path, "serving", "aws-irsa")
    (role,) = found["ServiceAccount"]["metadata"]["annotations"].values()
    assert role.startswith("arn:aws:iam::")
    volumes = found["Deployment"]["spec"]["template"]["spec"]["volumes"]
    (keys,) = [each["secret"] for each in volumes if "secret" in each]
    assert keys["optional"] is True
