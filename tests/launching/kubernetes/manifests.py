"""A job, and what scenarios ask of the cluster that runs it."""

from typing import Any

import yaml

from dkd.launching.interface import Job
from dkd.scenario.launch import Launch, NodeRequirement, Toleration, Volume

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
        extended_resources={"rdma/hca_shared_devices_a": 2},
        cpu="48",
        cpu_limit="64",
        memory="256Gi",
        shared_memory="64Gi",
        scratch="500Gi",
        environment={"NCCL_IB_HCA": "mlx5", "TORCH_CPP_LOG_LEVEL": "INFO"},
        volumes=(
            Volume(path="/data", claim="images", writable=True),
            Volume(path="/cache", claim="cache"),
            Volume(path="/etc/ssl/ours", secret="authority"),
            Volume(path="/etc/nccl", config_map="nccl"),
        ),
        secret="own-keys",
        service_account="trainer",
        queue="dkd",
        priority_class="high",
        node_selector={"node.kubernetes.io/instance-type": "p5.48xlarge"},
        node_affinity=(
            NodeRequirement(key="topology.kubernetes.io/zone", values=("a", "b")),
            NodeRequirement(key="nvidia.com/gpu.memory", operator="Gt", values=("79000",)),
            NodeRequirement(key="spot", operator="DoesNotExist"),
        ),
        tolerations=(
            Toleration(key="nvidia.com/gpu", operator="Exists", effect="NoSchedule"),
            Toleration(key="spot", value="yes", effect="NoExecute", seconds=60),
        ),
        deadline=3600,
        max_restarts=7,
    ),
    "unlimited": Launch(backend="trainjob", image="x", scratch="", shared_memory=""),
    "no keys": Launch(backend="trainjob", image="x", secret="none"),
}


def runtime_pod(runtime: Object) -> Object:
    job_set = runtime["spec"]["template"]["spec"]
    return job_set["replicatedJobs"][0]["template"]["spec"]["template"]


def as_trainer_makes_it(runtime: Object, job: Object) -> Object:
    """The pod template after Trainer has put the TrainJob's fields into the runtime's pod."""
    pod = yaml.safe_load(yaml.safe_dump(runtime_pod(runtime)))
    trainer, container = job["spec"]["trainer"], pod["spec"]["containers"][0]
    container |= {key: trainer[key] for key in ("image", "command", "args")}
    assert "resourcesPerNode" not in trainer  # they would replace the runtime's
    container["env"] = [*container["env"], *trainer["env"]]
    return pod
