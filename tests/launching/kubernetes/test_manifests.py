"""Manifests as pure functions, against the schemas of every release they are meant for."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes_schemas import (
    TRAINERS,
    VERSIONS,
    check_core,
    check_custom,
    restricted_violations,
)

from dkd.launching.interface import Job
from dkd.launching.kubernetes import nodes, pytorchjob, trainjob
from dkd.scenario.schema import Launch, Toleration

Object = dict[str, Any]
OWNER = {"apiVersion": "argoproj.io/v1alpha1", "kind": "Workflow", "name": "run", "uid": "u"}
JOB = Job(
    name="voc-15-1-step-2-0a1b2c3d4e",
    module="dkd.train",
    arguments=("--step", '{"step": 2}', "--run", "demo"),
    environment={"DKD_NOTE": "x"},
    result="s3://bucket/checkpoints/k",
)
LAUNCHES = {
    "plain": Launch(backend="trainjob", image="registry/dkd-training@sha256:0"),
    "everything": Launch(
        backend="trainjob",
        image="registry/dkd-training@sha256:0",
        namespace="team",
        nodes=4,
        processes_per_node=8,
        gpus_per_node=8,
        gpu_resource="nvidia.com/gpu",
        threads=6,
        cpu="48",
        memory="256Gi",
        shared_memory="64Gi",
        secret="own-keys",
        service_account="trainer",
        queue="dkd",
        priority_class="high",
        node_selector={"node.kubernetes.io/instance-type": "p5.48xlarge"},
        tolerations=(
            Toleration(key="nvidia.com/gpu", operator="Exists", effect="NoSchedule"),
            Toleration(key="spot", value="yes", effect="NoExecute", seconds=60),
        ),
        deadline=3600,
        max_restarts=7,
    ),
    "no keys": Launch(backend="trainjob", image="x", secret="none"),
}


@pytest.fixture(scope="module")
def shipped() -> Object:
    text = (Path(__file__).parents[3] / "k8s" / "base" / "runtime.yaml").read_text()
    return yaml.safe_load(text)


@pytest.fixture(params=LAUNCHES)
def launch(request: pytest.FixtureRequest) -> Launch:
    return LAUNCHES[request.param]


def runtime_pod(runtime: Object) -> Object:
    job_set = runtime["spec"]["template"]["spec"]
    return job_set["replicatedJobs"][0]["template"]["spec"]["template"]


def as_trainer_makes_it(runtime: Object, job: Object) -> Object:
    """The pod template after Trainer has put the TrainJob's fields into the runtime's pod."""
    pod = yaml.safe_load(yaml.safe_dump(runtime_pod(runtime)))
    trainer, container = job["spec"]["trainer"], pod["spec"]["containers"][0]
    container |= {key: trainer[key] for key in ("image", "command", "args")}
    container["resources"] = trainer["resourcesPerNode"]
    container["env"] = [*container["env"], *trainer["env"]]
    return pod


@pytest.mark.parametrize("version", TRAINERS)
def test_trainjob_and_runtime_fit_every_trainer(
    launch: Launch, shipped: Object, version: str
) -> None:
    job = trainjob.manifest(JOB, launch, "team", OWNER)
    check_custom(job, f"trainer-{version}-trainjobs-v1alpha1")
    own = trainjob.runtime(shipped, JOB, launch, "team", OWNER)
    check_custom(own, f"trainer-{version}-trainingruntimes-v1alpha1")


def test_pytorchjob_fits_the_operator(launch: Launch) -> None:
    job = pytorchjob.manifest(JOB, launch, "team", OWNER)
    check_custom(job, "training-operator-1.9.2-pytorchjobs-v1")


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("backend", ["trainjob", "pytorchjob"])
def test_pods_fit_every_kubernetes(
    launch: Launch, shipped: Object, version: str, backend: str
) -> None:
    if backend == "trainjob":
        own = trainjob.runtime(shipped, JOB, launch, "team")
        pod = as_trainer_makes_it(own, trainjob.manifest(JOB, launch, "team"))
    else:
        job = pytorchjob.manifest(JOB, launch, "team")
        pod = job["spec"]["pytorchReplicaSpecs"]["Master"]["template"]
    check_core({"apiVersion": "v1", "kind": "Pod", **pod}, version)
    assert restricted_violations(pod["spec"]) == []


def test_both_operators_get_the_same_pod(launch: Launch, shipped: Object) -> None:
    """The shipped runtime and the code's own template must not drift apart."""
    runtime = trainjob.runtime(shipped, JOB, launch, "team")
    by_trainer = as_trainer_makes_it(runtime, trainjob.manifest(JOB, launch, "team"))
    by_us = nodes.template(JOB, launch, "node")

    def normal(pod: Object) -> Object:
        pod = yaml.safe_load(yaml.safe_dump(pod))
        pod["spec"].pop("restartPolicy", None)  # the operator sets it
        container = pod["spec"]["containers"][0]
        for where, key in (
            (container, "env"),
            (container, "volumeMounts"),
            (pod["spec"], "volumes"),
        ):
            where[key] = sorted(where[key], key=lambda each: each["name"])
        return pod

    assert normal(by_trainer) == normal(by_us)


def test_the_shipped_runtime_is_not_changed(launch: Launch, shipped: Object) -> None:
    before = yaml.safe_dump(shipped)
    trainjob.runtime(shipped, JOB, launch, "team")
    assert yaml.safe_dump(shipped) == before


def test_an_administrators_settings_are_kept(shipped: Object) -> None:
    changed = yaml.safe_load(yaml.safe_dump(shipped))
    pod = runtime_pod(changed)["spec"]
    pod["imagePullSecrets"] = [{"name": "registry"}]
    pod["tolerations"] = [{"key": "ours", "operator": "Exists"}]
    pod["nodeSelector"] = {"pool": "training"}
    own = runtime_pod(trainjob.runtime(changed, JOB, LAUNCHES["everything"], "team"))["spec"]
    assert own["imagePullSecrets"] == [{"name": "registry"}]
    assert own["tolerations"][0] == {"key": "ours", "operator": "Exists"}
    assert len(own["tolerations"]) == 3
    assert own["nodeSelector"] == {
        "pool": "training",
        "node.kubernetes.io/instance-type": "p5.48xlarge",
    }


def test_what_a_scenario_asks_for_is_in_the_trainjob(shipped: Object) -> None:
    launch = LAUNCHES["everything"]
    job = trainjob.manifest(JOB, launch, "team", OWNER)
    trainer = job["spec"]["trainer"]
    assert trainer["command"] == ["torchrun", "-m", "dkd.train"]
    assert trainer["args"] == list(JOB.arguments)
    assert (trainer["numNodes"], trainer["numProcPerNode"]) == (4, 8)
    assert trainer["resourcesPerNode"]["limits"] == {"memory": "256Gi", "nvidia.com/gpu": "8"}
    assert trainer["resourcesPerNode"]["requests"]["cpu"] == "48"
    assert {"name": "OMP_NUM_THREADS", "value": "6"} in trainer["env"]
    assert {"name": "DKD_NOTE", "value": "x"} in trainer["env"]
    assert job["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "dkd"
    assert job["metadata"]["ownerReferences"] == [OWNER]
    assert job["spec"]["runtimeRef"]["name"] == JOB.name
    own = trainjob.runtime(shipped, JOB, launch, "team", OWNER)
    job_set = own["spec"]["template"]["spec"]
    assert own["spec"]["mlPolicy"]["numNodes"] == 4
    assert job_set["failurePolicy"]["maxRestarts"] == 7
    assert job_set["failurePolicy"]["rules"][0]["action"] == "FailJobSet"
    node_job = job_set["replicatedJobs"][0]["template"]["spec"]
    assert node_job["activeDeadlineSeconds"] > 3600
    assert node_job["backoffLimit"] == 0
    assert "ttlSecondsAfterFinished" not in job_set


@pytest.mark.parametrize("nodes_", [1, 3])
def test_pytorchjob_has_a_master_and_the_others(nodes_: int) -> None:
    launch = Launch(backend="pytorchjob", image="x", nodes=nodes_, processes_per_node=2)
    spec = pytorchjob.manifest(JOB, launch, "team")["spec"]
    replicas = {kind: each["replicas"] for kind, each in spec["pytorchReplicaSpecs"].items()}
    assert replicas == ({"Master": 1} if nodes_ == 1 else {"Master": 1, "Worker": 2})
    assert spec["nprocPerNode"] == "2"


def test_nothing_that_the_operators_inject_is_set(launch: Launch, shipped: Object) -> None:
    runtime = trainjob.runtime(shipped, JOB, launch, "team")
    pod = as_trainer_makes_it(runtime, trainjob.manifest(JOB, launch, "team"))
    names = [each["name"] for each in pod["spec"]["containers"][0]["env"]]
    assert not [name for name in names if name.startswith("PET_")]
    assert len(names) == len(set(names))
    assert not {"RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"} & set(names)


def test_keys_are_mounted_and_never_in_the_environment(launch: Launch) -> None:
    pod = nodes.template(JOB, launch, "node")
    text = str(pod["spec"]["containers"][0]["env"])
    assert "secretKeyRef" not in text
    assert ("s3-keys" in str(pod["spec"]["volumes"])) == (launch.secret != "none")


def test_identity_is_of_what_is_computed() -> None:
    same = Job(JOB.name, JOB.module, JOB.arguments, JOB.result, dict(JOB.environment))
    assert nodes.identity(same) == nodes.identity(JOB)
    for other in (
        replace(JOB, name="another"),
        replace(JOB, module="dkd.worker.initial_weights"),
        replace(JOB, environment={}),
    ):
        assert nodes.identity(other) != nodes.identity(JOB)
    # The name says what is made; another run that makes the same has other arguments.
    assert nodes.identity(replace(JOB, arguments=("--run", "other"))) == nodes.identity(JOB)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("memory", "16 GB"),
        ("cpu", "-1"),
        ("namespace", "Team"),
        ("gpu_resource", "gpu"),
        ("deadline", 5),
        ("gpus_per_node", 3),
        ("tolerations", [{"key": "a", "colour": "red"}]),
    ],
)
def test_bad_settings_are_refused(field: str, value: object) -> None:
    with pytest.raises(ValueError, match=field):
        Launch.model_validate({field: value})


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
