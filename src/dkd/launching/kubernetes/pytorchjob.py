"""Jobs as PyTorchJobs of Kubeflow Training Operator v1 (``kubeflow.org/v1``).

API: https://www.kubeflow.org/docs/components/trainer/legacy-v1/ . With a Master and
``nprocPerNode`` the operator sets the same ``PET_*`` variables that Trainer v2 does. It cannot
restart all ranks together, so the launching task does.

Where the *restricted* Pod Security Standard is enforced, PyTorchJobs of more than one node need
the operator's init container to be configured (``docs/how-to/cluster.md``).
"""

from dkd.launching.interface import Job
from dkd.launching.kubernetes import nodes
from dkd.launching.kubernetes.api import Cluster, Object, Resource
from dkd.launching.kubernetes.operators import Status, conditions
from dkd.scenario.launch import Launch

USER = 10001
"""The training image's user (``docker/training/Dockerfile``)."""

PYTORCHJOB = Resource("kubeflow.org", "v1", "pytorchjobs", "PyTorchJob")


def manifest(job: Job, launch: Launch, namespace: str, owner: Object | None = None) -> Object:
    """The PyTorchJob.

    Args:
        job: what runs.
        launch: how.
        namespace: where.
        owner: the workflow's reference, or None.
    """
    pod = nodes.template(job, launch, "pytorch")
    if launch.nodes > 1:
        # For the operator's init container: its image's user is root, which runAsNonRoot refuses.
        pod["spec"]["securityContext"]["runAsUser"] = USER
    replicas = {"restartPolicy": "Never", "template": pod}
    workers = {"Worker": {"replicas": launch.nodes - 1, **replicas}} if launch.nodes > 1 else {}
    return {
        "apiVersion": PYTORCHJOB.api_version,
        "kind": PYTORCHJOB.kind,
        "metadata": nodes.metadata(job, launch, namespace, owner),
        "spec": {
            "nprocPerNode": str(launch.processes_per_node),
            "runPolicy": {
                "backoffLimit": 0,
                "cleanPodPolicy": "Running",  # the dead stay, for their logs
                "activeDeadlineSeconds": launch.deadline + nodes.LATER,
            },
            "pytorchReplicaSpecs": {"Master": {"replicas": 1, **replicas}, **workers},
        },
    }


class PyTorchJobs:
    """Training Operator v1. See :class:`dkd.launching.kubernetes.operators.Operator`."""

    resource = PYTORCHJOB
    container = "pytorch"
    restarts_all_ranks = False

    def submit(
        self, cluster: Cluster, job: Job, launch: Launch, owner: Object | None
    ) -> Object | None:
        """Creates the job; None if there is one of this name."""
        return cluster.create(PYTORCHJOB, manifest(job, launch, cluster.namespace, owner))

    def settle(self, cluster: Cluster, found: Object) -> None:
        """There is nothing beside the job."""

    def remove(self, cluster: Cluster, job: str) -> None:
        """Deletes the job."""
        cluster.delete(PYTORCHJOB, job)

    def selector(self, job: str) -> str:
        """Labels of the job's pods."""
        return f"training.kubeflow.org/job-name={job}"

    def node(self, pod: Object) -> int:
        """The pod's node number: the master is node 0."""
        labels = pod["metadata"]["labels"]
        if labels["training.kubeflow.org/replica-type"].lower() == "master":
            return 0
        return 1 + int(labels["training.kubeflow.org/replica-index"])

    def attempt(self, pod: Object) -> int:
        """Always 0."""
        del pod
        return 0

    def objects_with_events(self, job: str) -> tuple[str, ...]:
        """Names of the objects whose events tell why pods are missing."""
        return (job,)

    def status(self, found: Object) -> Status:
        """What the PyTorchJob's conditions say."""
        known = conditions(found)
        if "Succeeded" in known:
            return Status("complete", known["Succeeded"])
        if "Failed" in known:
            return Status("failed", known["Failed"])
        if "Suspended" in known:
            return Status("suspended", known["Suspended"])
        return Status("active", None)
