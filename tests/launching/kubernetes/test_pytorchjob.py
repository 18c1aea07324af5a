"""PyTorchJobs as pure functions, against the operator's schema."""

from pathlib import Path
from typing import Any

import pytest
from kubernetes_schemas import check_custom
from manifests import JOB, OWNER

from dkd.launching.interface import Job
from dkd.launching.kubernetes import pytorchjob
from dkd.scenario.launch import Launch


def test_pytorchjob_fits_the_operator(launch: Launch) -> None:
    job = pytorchjob.manifest(JOB, launch, "team", OWNER)
    check_custom(job, "training-operator-1.9.2-pytorchjobs-v1")


@pytest.mark.parametrize("nodes_", [1, 3])
def test_pytorchjob_has_a_master_and_the_others(nodes_: int) -> None:
    launch = Launch(backend="pytorchjob", image="x", nodes=nodes_, processes_per_node=2)
    spec = pytorchjob.manifest(JOB, launch, "team")["spec"]
    replicas = {kind: each["replicas"] for kind, each in spec["pytorchReplicaSpecs"].items()}
    assert replicas == ({"Master": 1} if nodes_ == 1 else {"Master": 1, "Worker": 2})
    assert spec["nprocPerNode"] == "2"


def test_the_init_container_of_pytorchjobs_is_not_root() -> None:
    """The operator adds it to the pods of more than one node; its image's user is root."""
    job = Job("step-1", "dkd.train", (), "s3://bucket/result")

    def pod(count: int) -> dict[str, Any]:
        launch = Launch(backend="pytorchjob", image="train:1", nodes=count)
        replicas = pytorchjob.manifest(job, launch, "team")["spec"]["pytorchReplicaSpecs"]
        found: dict[str, Any] = replicas["Master"]["template"]["spec"]["securityContext"]
        return found

    dockerfile = Path(__file__).parents[3] / "docker/training/Dockerfile"
    assert f"USER {pod(2)['runAsUser']}:" in dockerfile.read_text()
    assert "runAsUser" not in pod(1)  # a cluster may want to choose
