"""Where a scenario's jobs run."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from dkd.scenario.strict_model import StrictModel

ProcessCount = Annotated[int, Field(ge=1, le=4096)]


class Toleration(StrictModel):
    """A Kubernetes toleration, with its field names in this file's spelling."""

    key: str = ""
    operator: Literal["Equal", "Exists"] = "Equal"
    value: str = ""
    effect: Literal["", "NoSchedule", "PreferNoSchedule", "NoExecute"] = ""
    seconds: Annotated[int, Field(ge=0, le=2**63 - 1)] | None = None


Quantity = Annotated[str, Field(pattern=r"^([0-9]+(\.[0-9]+)?(m|k|[KMGT]i?)?)?$")]
"""A Kubernetes quantity such as ``500m`` or ``16Gi``; empty leaves it to the cluster."""

Name = Annotated[str, Field(pattern=r"^([a-z0-9]([a-z0-9.-]*[a-z0-9])?)?$", max_length=253)]
"""Name of a Kubernetes object."""


class Launch(StrictModel):
    """Where and on how much a step's job runs. Changes no result but its rounding.

    Attributes:
        backend: ``local`` runs torchrun on this machine; ``trainjob`` (Kubeflow Trainer v2) and
            ``pytorchjob`` (Training Operator v1) on a Kubernetes cluster.
        nodes: machines per step.
        processes_per_node: ranks per machine (GPUs, or processes on CPU).
        threads: CPU threads per rank.
        image: the training image, best by digest. This and all below: cluster backends only.
        namespace: where jobs run; by default the launching pod's or kubeconfig's own.
        gpus_per_node: 0 trains on CPU; otherwise one GPU per rank.
        gpu_resource: what the cluster calls a GPU.
        cpu: CPUs requested per node.
        memory: memory requested per node, which is also the limit.
        shared_memory: size of /dev/shm per node (loader workers use it; counts as memory).
        runtime: TrainingRuntime that jobs are made from (``trainjob``).
        secret: secret with S3 keys ``accesskey`` and ``secretkey``; ``none`` where pods get
            credentials otherwise (IRSA). ``trainjob`` takes the runtime's own by default.
        service_account: of the workers; needs no rights.
        queue: Kueue's local queue.
        priority_class: of the workers' pods.
        node_selector: labels that nodes must have.
        tolerations: taints of nodes that do no harm.
        deadline: seconds that a job may run, over all its restarts; queueing does not count.
        max_restarts: how often all ranks start again, from the last save, when one died.
    """

    backend: Literal["local", "trainjob", "pytorchjob"] = "local"
    nodes: ProcessCount = 1
    processes_per_node: ProcessCount = 1
    threads: Annotated[int, Field(ge=1, le=4096)] = 1
    image: str = ""
    namespace: Name = ""
    gpus_per_node: Annotated[int, Field(ge=0, le=4096)] = 0
    gpu_resource: Annotated[str, Field(pattern=r"^[a-z0-9.-]+/[A-Za-z0-9._-]+$")] = "nvidia.com/gpu"
    cpu: Quantity = ""
    memory: Quantity = ""
    shared_memory: Quantity = "2Gi"
    runtime: Name = "dkd"
    secret: Name = ""
    service_account: Name = "dkd-worker"
    queue: Name = ""
    priority_class: Name = ""
    node_selector: dict[str, str] = {}
    tolerations: Annotated[tuple[Toleration, ...], Field(strict=False)] = ()
    deadline: Annotated[int, Field(ge=60, le=2**31 - 1)] = 7 * 24 * 3600
    max_restarts: Annotated[int, Field(ge=0, le=2**31 - 1)] = 3

    @model_validator(mode="after")
    def _one_gpu_per_rank(self) -> Self:
        if self.gpus_per_node not in (0, self.processes_per_node):
            raise ValueError(
                f"gpus_per_node: {self.gpus_per_node} GPUs for processes_per_node="
                f"{self.processes_per_node}; give one GPU per rank, or 0 to train on CPU"
            )
        return self
