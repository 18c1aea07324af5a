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
    """Where and on how much a step's job runs. Changes no result beyond its rounding.

    All fields after ``threads`` are for clusters alone.

    Attributes:
        backend: ``local`` runs torchrun on this machine, ``trainjob`` uses Kubeflow Trainer v2 and
            ``pytorchjob`` the Training Operator v1 of a Kubernetes cluster.
        nodes: machines per step.
        processes_per_node: ranks per machine: one per GPU, or any number on CPUs.
        threads: CPU threads per rank.
        image: the training image, best by digest.
        namespace: where jobs run; if empty, that of the launching pod or of the kubeconfig.
        gpus_per_node: 0 trains on CPUs; otherwise the same number as ``processes_per_node``.
        gpu_resource: the cluster's name for a GPU.
        cpu: CPUs that each node requests.
        memory: memory that each node requests, which is also its limit.
        shared_memory: size of /dev/shm on each node. Loader workers use it, and it counts as
            memory.
        runtime: TrainingRuntime that jobs are made from (``trainjob``).
        secret: secret with the S3 keys ``accesskey`` and ``secretkey``; ``none`` if pods get
            credentials in another way (IRSA). If empty, ``trainjob`` uses the runtime's.
        service_account: of the workers; it needs no rights.
        queue: local queue of Kueue.
        priority_class: of the workers' pods.
        node_selector: labels that nodes must have.
        tolerations: taints that nodes may have, each with ``key``, ``operator``, ``value``,
            ``effect`` and ``seconds`` as in a pod.
        deadline: seconds that a job may run, over all its restarts; time in a queue does not
            count.
        max_restarts: how often all ranks start again from the last save after one has died.
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
