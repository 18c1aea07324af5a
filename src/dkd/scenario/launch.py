"""Where a scenario's jobs run."""

from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from dkd.scenario.strict_model import StrictModel

ProcessCount = Annotated[int, Field(ge=1, le=4096)]


class Toleration(StrictModel):
    """A Kubernetes toleration, with its field names in this file's spelling."""

    key: str = ""
    operator: Literal["Equal", "Exists"] = "Equal"
    value: str = ""
    effect: Literal["", "NoSchedule", "PreferNoSchedule", "NoExecute"] = ""
    seconds: Annotated[int, Field(ge=0, le=2**63 - 1)] | None = None


class NodeRequirement(StrictModel):
    """What a machine's label must be, as in a pod's required node affinity.

    Attributes:
        key: of the label.
        operator: ``Gt`` and ``Lt`` compare whole numbers.
        values: one of them for ``In``, none of them for ``NotIn``; a single one for ``Gt`` and
            ``Lt``, none for ``Exists`` and ``DoesNotExist``.
    """

    key: Annotated[str, Field(min_length=1)]
    operator: Literal["In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt"] = "In"
    values: Annotated[tuple[str, ...], Field(strict=False)] = ()

    @model_validator(mode="after")
    def _values_fit(self) -> Self:
        many = {"In": (1, None), "NotIn": (1, None), "Gt": (1, 1), "Lt": (1, 1)}
        least, most = many.get(self.operator, (0, 0))
        if not least <= len(self.values) <= (len(self.values) if most is None else most):
            told = {None: "at least one", 1: "one", 0: "none"}[most]
            raise ValueError(f"values: {self.operator} takes {told}, not {len(self.values)}")
        return self


Quantity = Annotated[str, Field(pattern=r"^([0-9]+(\.[0-9]+)?(m|k|[KMGT]i?)?)?$")]
"""A Kubernetes quantity such as ``500m`` or ``16Gi``; empty leaves it to the cluster."""

Name = Annotated[str, Field(pattern=r"^([a-z0-9]([a-z0-9.-]*[a-z0-9])?)?$", max_length=253)]
"""Name of a Kubernetes object."""

_TAKEN = ("/tmp", "/dev/shm", "/var/run/dkd/s3")  # noqa: S108 - in the pod


class Volume(StrictModel):
    """A volume of the workers' pods, beside those that every job has.

    Attributes:
        path: where it is mounted.
        claim: name of a PersistentVolumeClaim; this or one of the next two.
        secret: name of a secret.
        config_map: name of a ConfigMap.
        writable: else it is mounted read-only; claims only.
    """

    path: Annotated[str, Field(pattern=r"^/[^:]+$")]
    claim: Name = ""
    secret: Name = ""
    config_map: Name = ""
    writable: bool = False

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if len([name for name in (self.claim, self.secret, self.config_map) if name]) != 1:
            raise ValueError("name one of claim, secret and config_map")
        if self.writable and not self.claim:
            raise ValueError("writable: Kubernetes mounts secrets and ConfigMaps read-only")
        if self.path.rstrip("/") in _TAKEN:
            raise ValueError(f"path: {self.path} is a volume of every job")
        return self


Variable = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
"""Name of an environment variable."""

_SECRET = {"AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "DKD_KFP_TOKEN", "DKD_KFP_COOKIE"}

ResourceName = Annotated[str, Field(pattern=r"^[a-z0-9.-]+/[A-Za-z0-9._-]+$")]
"""What a cluster calls a device, such as ``nvidia.com/gpu``."""


class Launch(StrictModel):
    """Where and on how much a step's job runs. Changes no result beyond its rounding.

    All fields after ``threads`` are only for clusters.

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
        extended_resources: other devices of a node by the cluster's name of them and their number,
            such as RDMA's: ``{rdma/hca_shared_devices_a: 1}``.
        cpu: CPUs that each node requests; if empty, what the runtime says (1).
        cpu_limit: CPUs that a node may use at most. If empty there is no limit, because throttling
            one node slows collective operations for all; some quotas want one.
        memory: memory that each node requests, which is also its limit; if empty, what the runtime
            says (4Gi without a limit).
        shared_memory: size of /dev/shm on each node. Loader workers use it, and it counts as
            memory.
        scratch: size of /tmp on each node: images, teacher and memory of the step, compiled
            kernels. Requested as ephemeral storage; a pod that writes more is evicted. If empty
            there is no limit.
        environment: variables of the workers. Never a secret: many can read scenarios.
        volumes: mounted into the workers' pods, in addition to those of every job. Each has
            ``path`` and one of ``claim``, ``secret`` and ``config_map``; ``writable`` for a claim.
        runtime: TrainingRuntime that jobs are made from (``trainjob``).
        secret: secret with the S3 keys ``accesskey`` and ``secretkey``; ``none`` if pods get
            credentials in another way (IRSA). If empty, ``trainjob`` uses the runtime's.
        service_account: of the workers; it needs no rights.
        queue: local queue of Kueue.
        priority_class: of the workers' pods.
        node_selector: labels that nodes must have.
        node_affinity: what else must hold of nodes' labels, all of it, each with ``key``,
            ``operator`` and ``values`` as in a pod.
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
    gpu_resource: ResourceName = "nvidia.com/gpu"
    extended_resources: dict[ResourceName, ProcessCount] = {}
    cpu: Quantity = ""
    cpu_limit: Quantity = ""
    memory: Quantity = ""
    shared_memory: Quantity = "2Gi"
    scratch: Quantity = "20Gi"
    environment: dict[Variable, str] = {}
    volumes: Annotated[tuple[Volume, ...], Field(strict=False)] = ()
    runtime: Name = "dkd"
    secret: Name = ""
    service_account: Name = "dkd-worker"
    queue: Name = ""
    priority_class: Name = ""
    node_selector: dict[str, str] = {}
    node_affinity: Annotated[tuple[NodeRequirement, ...], Field(strict=False)] = ()
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

    @field_validator("environment")
    @classmethod
    def _free_names(cls, environment: dict[str, str]) -> dict[str, str]:
        for name in environment:
            if name.startswith("PET_"):
                raise ValueError(f"{name}: the operators set the variables PET_...")
            if name in _SECRET:
                raise ValueError(
                    f"{name}: a scenario can be read by all who read results; mount a secret "
                    "(launch.secret, launch.volumes)"
                )
        return environment

    @model_validator(mode="after")
    def _paths_differ(self) -> Self:
        paths = [volume.path.rstrip("/") for volume in self.volumes]
        if twice := sorted({path for path in paths if paths.count(path) > 1}):
            raise ValueError(f"volumes: two are mounted at {twice[0]}")
        return self
