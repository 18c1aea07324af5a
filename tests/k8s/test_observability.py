"""Prometheus's and Grafana's objects, held against what workers tell and how their pods look."""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes_schemas import VERSIONS, check_core
from manifests import JOB

from dkd.launching.kubernetes import nodes
from dkd.scenario.launch import Launch

Object = dict[str, Any]
K8S = Path(__file__).parents[2] / "k8s"
OBSERVABILITY = K8S / "components/observability"
SELECTOR = 'namespace=~"$namespace", run=~"$run", step=~"$step"'


@pytest.fixture(scope="module")
def objects(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Object]:
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        pytest.skip("no kubectl: kustomize is part of it")
    folder = tmp_path_factory.mktemp("observability")
    overlay = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "namespace": "team",
        "components": [os.path.relpath(OBSERVABILITY, folder)],
    }
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(overlay))
    command = [kubectl, "kustomize", str(folder), "--load-restrictor", "LoadRestrictionsNone"]
    built = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return {each["kind"]: each for each in yaml.safe_load_all(built)}


@pytest.mark.parametrize("version", VERSIONS)
def test_objects_fit_every_kubernetes(objects: dict[str, Object], version: str) -> None:
    assert objects.keys() == {"ConfigMap", "NetworkPolicy", "PodMonitor"}
    for kind in ("ConfigMap", "NetworkPolicy"):
        check_core(objects[kind], version)


def test_prometheus_finds_and_reaches_the_port_of_a_worker(objects: dict[str, Object]) -> None:
    pod = nodes.template(JOB, Launch(image="x"), "node")
    (container,) = pod["spec"]["containers"]
    (port,) = container["ports"]
    values = {each["name"]: each.get("value") for each in container["env"]}
    assert values["DKD_METRICS_PORT"] == str(port["containerPort"])
    monitor, policy = objects["PodMonitor"]["spec"], objects["NetworkPolicy"]["spec"]
    (endpoint,) = monitor["podMetricsEndpoints"]
    assert endpoint["port"] == port["name"]
    for selector in (monitor["selector"], policy["podSelector"]):
        assert selector["matchLabels"].items() <= pod["metadata"]["labels"].items()
    (rule,) = policy["ingress"]
    assert rule["ports"] == [{"protocol": "TCP", "port": port["containerPort"]}]
    (kept,) = endpoint["relabelings"]
    # Rank 0's pods: of a TrainJob, of a PyTorchJob. Prometheus anchors the expression.
    found = [bool(re.fullmatch(kept["regex"], each)) for each in ("0;", ";master", "1;", ";worker")]
    assert found == [True, True, False, False]


def test_the_dashboard_asks_for_what_is_told(objects: dict[str, Object]) -> None:
    """Every metric by its name, with the labels that it has; none of them is left out."""
    assert objects["ConfigMap"]["metadata"]["labels"] == {"grafana_dashboard": "1"}
    dashboard = json.loads(objects["ConfigMap"]["data"]["dkd-training.json"])
    asked = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    for expression in asked:
        for metric, labels in re.findall(r"(dkd_\w+)\{([^}]*)\}", expression):
            assert labels == SELECTOR or labels.startswith(f"{SELECTOR}, term"), metric
    source = (K8S.parent / "src/dkd/training/prometheus.py").read_text()
    made = set()
    for kind, name in re.findall(r"(\w+)\(\s*\"(dkd_training_\w+)\"", source):
        made.add(name + "_total" * (kind == "counter"))
    assert len(made) > 6
    assert {name for each in asked for name in re.findall(r"dkd_\w+", each)} == made
