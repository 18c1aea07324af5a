"""Jobs as TrainJobs of Kubeflow Trainer v2 (``trainer.kubeflow.org/v1alpha1``).

API: https://www.kubeflow.org/docs/components/trainer/ . Only what every 2.x release has is used:
``runtimeRef`` and ``trainer``. Node selectors, tolerations, volumes, deadline and restarts have no
place in a TrainJob that all of them know, so each job gets a TrainingRuntime of its own, made from
the one that ``k8s/`` ships, owned by the TrainJob and gone with it. Resources stand there as well:
those of a TrainJob would replace the runtime's, also where the scenario leaves them open.
"""

import copy

from dkd.launching.interface import Job, JobFailed
from dkd.launching.kubernetes import nodes
from dkd.launching.kubernetes.api import Cluster, NotYet, Object, Refused, Resource
from dkd.launching.kubernetes.operators import Status, conditions
from dkd.scenario.launch import Launch

TRAINJOB = Resource("trainer.kubeflow.org", "v1alpha1", "trainjobs", "TrainJob")
RUNTIME = Resource("trainer.kubeflow.org", "v1alpha1", "trainingruntimes", "TrainingRuntime")


def manifest(job: Job, launch: Launch, namespace: str, owner: Object | None = None) -> Object:
    """The TrainJob.

    Args:
        job: what runs.
        launch: how.
        namespace: where.
        owner: the workflow's reference, or None.
    """
    return {
        "apiVersion": TRAINJOB.api_version,
        "kind": TRAINJOB.kind,
        "metadata": nodes.metadata(job, launch, namespace, owner),
        "spec": {
            "runtimeRef": {"apiGroup": RUNTIME.group, "kind": RUNTIME.kind, "name": job.name},
            "trainer": {
                "image": launch.image,
                "command": nodes.command(job),
                "args": list(job.arguments),
                "env": nodes.variables(job, launch),
                "numNodes": launch.nodes,
                "numProcPerNode": launch.processes_per_node,
            },
        },
    }


def runtime(
    shipped: Object, job: Job, launch: Launch, namespace: str, owner: Object | None = None
) -> Object:
    """The job's own TrainingRuntime.

    Args:
        shipped: the TrainingRuntime to start from, as the cluster has it.
        job: what runs.
        launch: how.
        namespace: where.
        owner: the workflow's reference until the TrainJob exists, or None.

    Raises:
        JobFailed: the shipped runtime has no node job, or no container in it.
    """
    spec = copy.deepcopy(shipped["spec"])
    spec.setdefault("mlPolicy", {})["numNodes"] = launch.nodes
    job_set = spec["template"]["spec"]
    node = next((each for each in job_set["replicatedJobs"] if each["name"] == "node"), None)
    if node is None:
        raise JobFailed(
            f"TrainingRuntime {launch.runtime} in namespace {namespace} has no replicated job "
            "'node'; apply k8s/ again"
        )
    policy = job_set.setdefault("failurePolicy", {})
    policy["maxRestarts"] = launch.max_restarts
    # Without this rule a job that ran into its deadline would be restarted.
    policy["rules"] = [
        {
            "name": "deadline",
            "action": "FailJobSet",
            "onJobFailureReasons": ["DeadlineExceeded"],
        }
    ]
    # As Trainer will set them; Kueue counts the nodes here (seen in 0.15).
    node["template"]["spec"] |= {"parallelism": launch.nodes, "completions": launch.nodes}
    # For a launching task that is no more; otherwise it is the one to tell.
    node["template"]["spec"]["activeDeadlineSeconds"] = launch.deadline + nodes.LATER
    pod = node["template"]["spec"]["template"]["spec"]
    container = next((each for each in pod["containers"] if each["name"] == "node"), None)
    if container is None:
        raise JobFailed(
            f"TrainingRuntime {launch.runtime} in namespace {namespace} has no container 'node'; "
            "apply k8s/ again"
        )
    nodes.configure(pod, container, launch)
    metadata = nodes.metadata(job, launch, namespace, owner)
    del metadata["annotations"]
    return {
        "apiVersion": RUNTIME.api_version,
        "kind": RUNTIME.kind,
        "metadata": metadata,
        "spec": spec,
    }


def _will_go(runtime: Object) -> bool:
    """Whether the cluster removes a runtime: it is told to, or its TrainJob is gone."""
    owners = runtime["metadata"].get("ownerReferences") or []
    being_deleted = "deletionTimestamp" in runtime["metadata"]
    return being_deleted or any(each["kind"] == TRAINJOB.kind for each in owners)


class TrainJobs:
    """Kubeflow Trainer v2. See :class:`dkd.launching.kubernetes.operators.Operator`."""

    resource = TRAINJOB
    container = "node"
    restarts_all_ranks = True  # JobSet's failure policy

    def submit(
        self, cluster: Cluster, job: Job, launch: Launch, owner: Object | None
    ) -> Object | None:
        """Creates runtime and job; None if there is a job of this name."""
        shipped = cluster.get(RUNTIME, launch.runtime)
        if shipped is None:
            where = f"namespace {cluster.namespace}"
            if not cluster.namespace_exists():
                raise JobFailed(f"{where} does not exist; kubectl get namespaces")
            raise JobFailed(
                f"{where} has no TrainingRuntime {launch.runtime}: apply k8s/ to it, or set "
                f"launch.runtime; kubectl get {RUNTIME.full_name} -n {cluster.namespace}"
            )
        own = runtime(shipped, job, launch, cluster.namespace, owner)
        if cluster.create(RUNTIME, own) is None:
            left = cluster.get(RUNTIME, job.name)
            if left is None or _will_go(left):
                if cluster.get(TRAINJOB, job.name) is not None:
                    return None
                # It goes when the cluster has noticed that its owner is gone; taking it over now
                # would pull it from under the new job.
                raise NotYet(f"{RUNTIME.kind} {job.name} of the earlier job is being removed")
            cluster.patch(RUNTIME, job.name, {"spec": own["spec"]})
        try:
            return cluster.create(TRAINJOB, manifest(job, launch, cluster.namespace, owner))
        except Refused as refused:
            # Trainer's webhook looks the runtime up in a cache, which may not have it yet.
            if f'"{job.name}" not found' not in refused.message:
                if cluster.get(TRAINJOB, job.name) is None:  # nobody else's
                    cluster.delete(RUNTIME, job.name)
                raise
            raise NotYet(f"Trainer does not know {RUNTIME.kind} {job.name} yet") from None

    def settle(self, cluster: Cluster, found: Object) -> None:
        """Makes the TrainJob the owner of its runtime."""
        # No blockOwnerDeletion: Trainer keeps a runtime until its TrainJob is gone.
        name = found["metadata"]["name"]
        reference = {
            "apiVersion": TRAINJOB.api_version,
            "kind": TRAINJOB.kind,
            "name": name,
            "uid": found["metadata"]["uid"],
        }
        try:
            cluster.patch(RUNTIME, name, {"metadata": {"ownerReferences": [reference]}})
        except Refused as refused:
            if refused.status != 404:  # a job that is over may have lost it
                raise

    def remove(self, cluster: Cluster, job: str) -> None:
        """Deletes the job and its runtime, which stays if there is no job yet."""
        cluster.delete(TRAINJOB, job)
        cluster.delete(RUNTIME, job)

    def selector(self, job: str) -> str:
        """Labels of the job's pods."""
        return f"jobset.sigs.k8s.io/jobset-name={job},jobset.sigs.k8s.io/replicatedjob-name=node"

    def node(self, pod: Object) -> int:
        """The pod's node number."""
        return int(pod["metadata"]["labels"]["batch.kubernetes.io/job-completion-index"])

    def attempt(self, pod: Object) -> int:
        """The JobSet's restarts when the pod was made."""
        return int(pod["metadata"]["labels"].get("jobset.sigs.k8s.io/restart-attempt", "0"))

    def objects_with_events(self, job: str) -> tuple[str, ...]:
        """Names of the objects whose events tell why pods are missing."""
        return job, f"{job}-node-0"  # TrainJob and JobSet; the Job

    def status(self, found: Object) -> Status:
        """What the TrainJob's conditions say."""
        known = conditions(found)
        if "Complete" in known:
            return Status("complete", known["Complete"])
        if "Failed" in known:
            return Status("failed", known["Failed"])
        if "Suspended" in known:
            return Status("suspended", known["Suspended"])
        return Status("active", None)
