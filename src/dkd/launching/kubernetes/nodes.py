"""The pod of one node of a job: what both operators' manifests share. Pure functions.

``k8s/base/runtime.yaml`` describes the same pod for the TrainingRuntime, where an administrator
may change it; a test holds the two together.
"""

import hashlib
import json

from dkd.launching.interface import Job
from dkd.launching.kubernetes.api import Object
from dkd.scenario.form import S3_SECRET
from dkd.scenario.launch import Launch, Volume

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


def variables(job: Job, launch: Launch) -> list[Object]:
    """Environment that differs from job to job."""
    values = {
        "OMP_NUM_THREADS": str(launch.threads),
        **launch.environment,
        **job.environment,
    }
    return [{"name": name, "value": value} for name, value in values.items()]


def command(job: Job) -> list[str]:
    """Bare torchrun: nodes, ranks and the meeting point come from the operator's environment."""
    return ["torchrun", "-m", job.module]


def configure(pod: Object, container: Object, launch: Launch) -> None:
    """Gives a pod what a scenario asks of it. What it leaves open stays as it is.

    Args:
        pod: the pod's spec; changed. It has the volumes ``scratch`` and ``shared-memory``.
        container: the one of its containers that trains; changed. Its variables are those that
            every job has: the job's own follow (:func:`variables`).
        launch: what is asked.
    """
    pod["serviceAccountName"] = launch.service_account
    if launch.priority_class:
        pod["priorityClassName"] = launch.priority_class
    if launch.node_selector:
        pod["nodeSelector"] = {**pod.get("nodeSelector", {}), **launch.node_selector}
    if launch.node_affinity:
        _require_of_machines(pod, launch)
    if launch.tolerations:
        pod["tolerations"] = [*pod.get("tolerations", []), *_tolerations(launch)]
    container["resources"] = _resources(launch, container.get("resources", {}))
    for volume in pod["volumes"]:
        if volume["name"] == "shared-memory":
            volume["emptyDir"] = _empty_dir(launch.shared_memory, medium="Memory")
        elif volume["name"] == "scratch":
            volume["emptyDir"] = _empty_dir(launch.scratch)
    if launch.secret:
        _use_secret(pod, container, launch.secret)
    container["env"] = [each for each in container["env"] if each["name"] not in launch.environment]
    for number, volume in enumerate(launch.volumes):
        name = f"extra-{number}"
        pod["volumes"].append({"name": name, **_source(volume)})
        mount = {"name": name, "mountPath": volume.path}
        container["volumeMounts"].append(mount if volume.writable else {**mount, "readOnly": True})


def _resources(launch: Launch, found: Object) -> Object:
    """Requests and limits of a node's container; what is not asked for is as found."""
    devices = {name: str(number) for name, number in launch.extended_resources.items()}
    if launch.gpus_per_node:
        devices[launch.gpu_resource] = str(launch.gpus_per_node)
    memory = {"memory": launch.memory} if launch.memory else {}
    cpu = {"cpu": launch.cpu} if launch.cpu else {}
    limit = {"cpu": launch.cpu_limit} if launch.cpu_limit else {}
    scratch = {"ephemeral-storage": launch.scratch} if launch.scratch else {}
    others = {k: v for k, v in found.get("requests", {}).items() if k != "ephemeral-storage"}
    return {
        "requests": {**others, **cpu, **memory, **scratch, **devices},
        "limits": {**found.get("limits", {}), **limit, **memory, **devices},
    }


def _require_of_machines(pod: Object, launch: Launch) -> None:
    wanted = [
        {
            "key": each.key,
            "operator": each.operator,
            **({"values": list(each.values)} if each.values else {}),
        }
        for each in launch.node_affinity
    ]
    affinity = pod.setdefault("affinity", {}).setdefault("nodeAffinity", {})
    required = affinity.setdefault("requiredDuringSchedulingIgnoredDuringExecution", {})
    for term in required.setdefault("nodeSelectorTerms", [{}]):  # one of the terms must hold
        term["matchExpressions"] = [*term.get("matchExpressions", []), *wanted]


def _tolerations(launch: Launch) -> list[Object]:
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


def _empty_dir(size: str, **kind: str) -> Object:
    return {**kind, **({"sizeLimit": size} if size else {})}


def _source(volume: Volume) -> Object:
    if volume.claim:
        claim = {"claimName": volume.claim}
        return {"persistentVolumeClaim": claim if volume.writable else {**claim, "readOnly": True}}
    if volume.secret:
        return {"secret": {"secretName": volume.secret}}
    return {"configMap": {"name": volume.config_map}}


def _use_secret(pod: Object, container: Object, secret: str) -> None:
    """Other S3 keys than the pod has, or none."""
    pod["volumes"] = [each for each in pod["volumes"] if each["name"] != "s3-keys"]
    mounts = [each for each in container["volumeMounts"] if each["name"] != "s3-keys"]
    variables = [each for each in container["env"] if each["name"] != _KEYS_VARIABLE]
    if secret != NO_SECRET:
        pod["volumes"].append(_keys_volume(secret))
        mounts.append(_KEYS_MOUNT)
        variables.append({"name": _KEYS_VARIABLE, "value": KEYS})
    container["volumeMounts"], container["env"] = mounts, variables


_KEYS_VARIABLE = "DKD_S3_CREDENTIALS_DIR"
_KEYS_MOUNT = {"name": "s3-keys", "mountPath": KEYS, "readOnly": True}


def _keys_volume(secret: str) -> Object:
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
    worker = _container(job, launch, container)
    pod = {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": SHUTDOWN_SECONDS + 30,
        "securityContext": {
            "runAsNonRoot": True,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [worker],
        "volumes": [
            {"name": "scratch", "emptyDir": {}},
            {"name": "shared-memory", "emptyDir": {}},
            _keys_volume(S3_SECRET),
        ],
    }
    configure(pod, worker, launch)
    worker["env"] = [*worker["env"], *variables(job, launch)]
    return {
        "metadata": {
            # Service meshes would intercept the ranks' traffic and keep finished pods running.
            "annotations": {"sidecar.istio.io/inject": "false"},
            "labels": {**labels("worker"), "sidecar.istio.io/inject": "false"},
        },
        "spec": pod,
    }


def _container(job: Job, launch: Launch, name: str) -> Object:
    return {
        "name": name,
        "image": launch.image,
        "command": command(job),
        "args": list(job.arguments),
        "env": _fixed_variables(),
        "envFrom": [{"configMapRef": {"name": S3_CONFIG_MAP}}],
        "ports": [{"name": "metrics", "containerPort": METRICS_PORT}],
        "resources": {"requests": {"cpu": "1", "memory": "4Gi"}},
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [
            {"name": "scratch", "mountPath": "/tmp"},  # noqa: S108 - in the pod
            {"name": "shared-memory", "mountPath": "/dev/shm"},  # noqa: S108
            _KEYS_MOUNT,
        ],
    }


def labels(component: str) -> dict[str, str]:
    """Labels by which the network policies know a pod.

    Args:
        component: ``worker``, or ``launcher`` for the pods of a pipeline's components.
    """
    return {"app.kubernetes.io/name": "dkd", "app.kubernetes.io/component": component}


def _fixed_variables() -> list[Object]:
    """Environment that is the same for every job."""
    values = {
        "HOME": "/tmp",  # noqa: S108 - writable for whatever user the pod runs as
        "USER": "dkd",
        "PYTHONUNBUFFERED": "1",
        "TORCH_ELASTIC_SHUTDOWN_TIMEOUT": str(SHUTDOWN_SECONDS),
        "DKD_TERMINATION_LOG": "/dev/termination-log",
        "DKD_METRICS_PORT": str(METRICS_PORT),
        _KEYS_VARIABLE: KEYS,
        # PyTorch warns of names of pods that no name server knows, in every job.
        "TORCH_CPP_LOG_LEVEL": "ERROR",
    }
    return [{"name": name, "value": value} for name, value in values.items()]
