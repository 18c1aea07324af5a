"""The pod of one node of a job: what both operators' manifests share. Pure functions.

``k8s/base/runtime.yaml`` describes the same pod for the TrainingRuntime, where an administrator
may change it; a test holds the two together.
"""

import hashlib
import json

from dkd.launching.interface import Job
from dkd.launching.kubernetes.api import Object
from dkd.scenario.form import S3_SECRET
from dkd.scenario.launch import Launch

S3_CONFIG_MAP = "dkd-s3"
"""ConfigMap with the variables of the S3 connection."""

NO_SECRET = "none"  # noqa: S105
KEYS = "/var/run/dkd/s3"
IDENTITY = "dkd/identity"
"""Annotation with a digest of what a job computes."""

METRICS_PORT = 9464
"""Where rank 0 answers Prometheus (:mod:`dkd.training.prometheus`)."""

SHUTDOWN_SECONDS = 60  # for ranks to save after SIGTERM; the pod's grace is half a minute longer

LATER = 60
"""Seconds by which the operator's own deadline is later than the launching task's."""

_QUEUE = "kueue.x-k8s.io/queue-name"


def identity(job: Job) -> str:
    """Digest of what a job computes: a running job is adopted only if it computes the same.

    The name says what it makes. Its arguments may be those of another run that makes the same.
    """
    document = [job.module, job.name, sorted(job.environment.items())]
    return hashlib.sha256(json.dumps(document).encode()).hexdigest()[:16]


def metadata(job: Job, launch: Launch, namespace: str, owner: Object | None) -> Object:
    """The job object's metadata.

    Args:
        job: what runs.
        launch: how.
        namespace: where.
        owner: the workflow's reference, or None.
    """
    labels = {"app.kubernetes.io/name": "dkd", "app.kubernetes.io/managed-by": "dkd"}
    if launch.queue:
        labels[_QUEUE] = launch.queue
    return {
        "name": job.name,
        "namespace": namespace,
        "labels": labels,
        "annotations": {IDENTITY: identity(job)},
        **({"ownerReferences": [owner]} if owner else {}),
    }


def resources(launch: Launch) -> Object:
    """Requests and limits of a node's container."""
    gpus = {launch.gpu_resource: str(launch.gpus_per_node)} if launch.gpus_per_node else {}
    memory = {"memory": launch.memory} if launch.memory else {}
    cpu = {"cpu": launch.cpu} if launch.cpu else {}
    # No CPU limit: throttling slows collective operations for everyone.
    return {"requests": {**cpu, **memory, **gpus}, "limits": {**memory, **gpus}}


def variables(job: Job, launch: Launch) -> list[Object]:
    """Environment that differs from job to job."""
    values = {"OMP_NUM_THREADS": str(launch.threads), **job.environment}
    return [{"name": name, "value": value} for name, value in values.items()]


def command(job: Job) -> list[str]:
    """Bare torchrun: nodes, ranks and the meeting point come from the operator's environment."""
    return ["torchrun", "-m", job.module]


def tolerations(launch: Launch) -> list[Object]:
    """In the API's spelling."""
    return [
        {
            "operator": each.operator,
            **({"key": each.key} if each.key else {}),
            **({"value": each.value} if each.value else {}),
            **({"effect": each.effect} if each.effect else {}),
            **({"tolerationSeconds": each.seconds} if each.seconds is not None else {}),
        }
        for each in launch.tolerations
    ]


def shared_memory(launch: Launch) -> Object:
    """The volume of /dev/shm, which containers otherwise have 64 MB of."""
    size = {"sizeLimit": launch.shared_memory} if launch.shared_memory else {}
    return {"name": "shared-memory", "emptyDir": {"medium": "Memory", **size}}


def keys_volume(secret: str) -> Object:
    """The volume of the S3 keys."""
    return {"name": "s3-keys", "secret": {"secretName": secret}}


def template(job: Job, launch: Launch, container: str) -> Object:
    """A whole pod template, for operators without a runtime to start from.

    It satisfies the *restricted* Pod Security Standard, needs no account in the image's passwd
    and a root file system that may be read-only.

    Args:
        job: what runs.
        launch: how.
        container: the name that the operator expects.
    """
    secret = launch.secret or S3_SECRET
    keys = secret != NO_SECRET
    return {
        "metadata": {
            # Service meshes would intercept the ranks' traffic and keep finished pods running.
            "annotations": {"sidecar.istio.io/inject": "false"},
            "labels": template_labels(),
        },
        "spec": {
            "serviceAccountName": launch.service_account,
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "terminationGracePeriodSeconds": SHUTDOWN_SECONDS + 30,
            "securityContext": {
                "runAsNonRoot": True,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            **({"priorityClassName": launch.priority_class} if launch.priority_class else {}),
            **({"nodeSelector": launch.node_selector} if launch.node_selector else {}),
            **({"tolerations": tolerations(launch)} if launch.tolerations else {}),
            "containers": [_container(job, launch, container, keys=keys)],
            "volumes": [
                {"name": "scratch", "emptyDir": {}},
                shared_memory(launch),
                *([keys_volume(secret)] if keys else []),
            ],
        },
    }


def _container(job: Job, launch: Launch, name: str, *, keys: bool) -> Object:
    return {
        "name": name,
        "image": launch.image,
        "command": command(job),
        "args": list(job.arguments),
        "env": [*fixed_variables(keys=keys), *variables(job, launch)],
        "envFrom": [{"configMapRef": {"name": S3_CONFIG_MAP}}],
        "ports": [{"name": "metrics", "containerPort": METRICS_PORT}],
        "resources": resources(launch),
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [
            {"name": "scratch", "mountPath": "/tmp"},  # noqa: S108 - in the pod
            {"name": "shared-memory", "mountPath": "/dev/shm"},  # noqa: S108
            *([{"name": "s3-keys", "mountPath": KEYS, "readOnly": True}] if keys else []),
        ],
    }


def template_labels() -> dict[str, str]:
    """Labels of workers' pods; the network policy goes by them."""
    return {
        "app.kubernetes.io/name": "dkd",
        "app.kubernetes.io/component": "worker",
        "sidecar.istio.io/inject": "false",
    }


def fixed_variables(*, keys: bool) -> list[Object]:
    """Environment that is the same for every job."""
    values = {
        "HOME": "/tmp",  # noqa: S108 - writable for whatever user the pod runs as
        "USER": "dkd",
        "PYTHONUNBUFFERED": "1",
        "TORCH_ELASTIC_SHUTDOWN_TIMEOUT": str(SHUTDOWN_SECONDS),
        "DKD_TERMINATION_LOG": "/dev/termination-log",
        "DKD_METRICS_PORT": str(METRICS_PORT),
        **({"DKD_S3_CREDENTIALS_DIR": KEYS} if keys else {}),
        # PyTorch warns of names of pods that no name server knows, in every job.
        "TORCH_CPP_LOG_LEVEL": "ERROR",
    }
    return [{"name": name, "value": value} for name, value in values.items()]
