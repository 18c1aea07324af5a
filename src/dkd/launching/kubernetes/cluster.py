"""The cluster backends: a job is created or adopted, followed, verified and cleaned up.

What must survive what:

* API server away, watch expired: :class:`~dkd.launching.kubernetes.following.Following` asks again.
* SIGTERM, Ctrl-C, the deadline, a job that cannot start: the job is deleted.
* SIGKILL or a lost machine: the job runs on; the retry of the launching task finds it under the
  same name and adopts it. Its owner is the workflow, not the launching pod.
"""

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from types import FrameType
from typing import TypeVar

from dkd.errors import UserError
from dkd.launching.interface import Interrupted, Job, JobFailed, is_published, require_result
from dkd.launching.kubernetes import nodes
from dkd.launching.kubernetes.api import Cluster, Object, Refused, Unavailable, patiently
from dkd.launching.kubernetes.following import Following, Lost, Timing
from dkd.launching.kubernetes.operators import Operator
from dkd.launching.kubernetes.problems import from_refusal
from dkd.scenario.launch import Launch

T = TypeVar("T")


class ClusterLauncher:
    """Runs jobs through an operator of the cluster. See :class:`dkd.launching.interface.Launcher`.

    Args:
        operator: Trainer v2 or Training Operator v1.
        launch: the scenario's settings.
        timing: how often and how long; tests are in more of a hurry.
        say: prints a line.

    Raises:
        UserError: the training image is not named.
    """

    def __init__(
        self,
        operator: Operator,
        launch: Launch,
        timing: Timing | None = None,
        say: Callable[[str], None] | None = None,
    ) -> None:
        if not launch.image:
            raise UserError(
                "launch.image: name the training image, best by digest "
                "(--set launch.image=REGISTRY/dkd-training@sha256:...)"
            )
        self._operator, self._launch = operator, launch
        self._timing = timing or Timing()
        self._say = say or _print
        self._adopted = False

    def run(self, job: Job) -> None:
        """See :class:`dkd.launching.interface.Launcher`."""
        cluster = Cluster(self._launch.namespace)
        with _sigterm_raises():
            try:
                self._run(cluster, job)
            except (Interrupted, KeyboardInterrupt):
                self._say(f"{job.name}: stopping; deleting the job")
                self._delete(cluster, job)
                raise
            except Refused as refused:
                raise self._refusal(cluster, job, refused) from None
            except Unavailable as error:
                raise JobFailed(
                    f"job {job.name}: the API server does not answer ({error}); the job is left "
                    f"as it is; kubectl get {self._operator.resource.full_name} {job.name} "
                    f"-n {cluster.namespace}"
                ) from None

    def _run(self, cluster: Cluster, job: Job) -> None:
        self._follow(cluster, job, self._create_or_adopt(cluster, job))
        if self._adopted and not is_published(job):  # it was asked for less than this one is
            self._follow(cluster, job, self._create_anew(cluster, job))
        require_result(job)
        self._delete(cluster, job)

    def _follow(self, cluster: Cluster, job: Job, found: Object) -> None:
        """Follows a job to its good end, and starts all ranks again where the operator does not."""
        self._ask(lambda: self._operator.settle(cluster, found))
        for restarts in count():
            try:
                Following(
                    cluster, self._operator, self._launch, job, found, self._timing, self._say
                ).follow()
                break
            except Lost as lost:
                if lost.gone and is_published(job):
                    return
                if lost.give_up:
                    self._delete(cluster, job)
                hopeless = lost.final or self._operator.restarts_all_ranks
                if hopeless or restarts == self._launch.max_restarts:
                    raise JobFailed(str(lost)) from None
                self._say(
                    f"{lost}\n{job.name}: starting all ranks again from the last save "
                    f"(restart {restarts + 1} of {self._launch.max_restarts})"
                )
                found = self._create_anew(cluster, job)

    def _create_or_adopt(self, cluster: Cluster, job: Job) -> Object:
        found = self._ask(lambda: cluster.get(self._operator.resource, job.name))
        if found is None:
            return self._create(cluster, job)
        state = self._operator.status(found).state
        if found["metadata"].get("deletionTimestamp"):
            return self._create_anew(cluster, job)
        if state == "complete":
            if is_published(job):
                return found
            self._say(f"{job.name}: completed earlier, but its result is gone; running it again")
            return self._create_anew(cluster, job)
        if state == "failed":
            self._say(f"{job.name}: failed earlier; starting it again")
            return self._create_anew(cluster, job)
        return self._adopt(cluster, job, found)

    def _adopt(self, cluster: Cluster, job: Job, found: Object) -> Object:
        theirs = (found["metadata"].get("annotations") or {}).get(nodes.IDENTITY)
        if theirs != nodes.identity(job):
            resource = self._operator.resource
            raise JobFailed(
                f"{resource.kind} {job.name} in namespace {cluster.namespace} is running something "
                f"else; kubectl delete {resource.full_name} {job.name} -n {cluster.namespace}"
            )
        self._say(f"{job.name}: running since {found['metadata']['creationTimestamp']}; following")
        self._adopted = True
        self._own(cluster, job, found)
        return found

    def _own(self, cluster: Cluster, job: Job, found: Object) -> None:
        """Makes this task's workflow one more owner of a job that another workflow started.

        Else the job would go when that one does: Kubeflow Pipelines as it ships removes a workflow
        an hour after its end.
        """
        owner = self._ask(cluster.owner)
        owners = found["metadata"].get("ownerReferences") or []
        if not owners or owner is None or owner["uid"] in [each["uid"] for each in owners]:
            return
        change = {"metadata": {"ownerReferences": [*owners, owner]}}
        try:
            self._ask(lambda: cluster.patch(self._operator.resource, job.name, change))
        except Refused as refused:
            if refused.status != 404:  # gone meanwhile, as following will tell
                self._say(
                    f"{job.name}: will be removed with {owners[0]['kind']} {owners[0]['name']}, "
                    f"which started it ({refused}); bind the role of k8s/ to this account"
                )

    def _create(self, cluster: Cluster, job: Job) -> Object:
        operator, launch = self._operator, self._launch

        def submit() -> Object:
            created = operator.submit(cluster, job, launch, cluster.owner())
            if created is None:  # an answer that got lost, or another launching task
                found = cluster.get(operator.resource, job.name)
                if found is None:
                    raise Unavailable("the job appeared and disappeared")
                return self._adopt(cluster, job, found)
            self._say(
                f"{job.name}: {operator.resource.kind} of {launch.nodes} x "
                f"{launch.processes_per_node} ranks created in namespace {cluster.namespace}"
            )
            return created

        return self._ask(submit)

    def _create_anew(self, cluster: Cluster, job: Job) -> Object:
        """Creates the job after the end of an earlier one of its name and of its pods."""
        resource = self._operator.resource
        self._ask(lambda: self._operator.remove(cluster, job.name))
        told = False
        end = time.monotonic() + self._timing.ending
        while self._ask(lambda: cluster.get(resource, job.name)) or self._ask(
            lambda: cluster.pods(self._operator.selector(job.name))[0]
        ):
            if time.monotonic() > end:
                raise JobFailed(
                    f"job {job.name}: the earlier job of its name does not end; a lost machine "
                    f"holds its pods: kubectl get pods -o wide -n {cluster.namespace} -l "
                    f"{self._operator.selector(job.name)}"
                )
            if not told:
                self._say(f"{job.name}: waiting for the earlier job's pods to end")
                told = True
            time.sleep(self._timing.poll)
        return self._create(cluster, job)

    def _delete(self, cluster: Cluster, job: Job) -> None:
        """Deletes the job; says so if it cannot, because somebody must then."""
        resource = self._operator.resource
        try:
            patiently(
                lambda: self._operator.remove(cluster, job.name),
                self._timing.deleting,
                self._say,
                self._timing.poll / 2,
            )
        except (Unavailable, Refused) as error:
            self._say(
                f"{job.name}: could not be deleted ({error}); kubectl delete {resource.full_name} "
                f"{job.name} -n {cluster.namespace}"
            )

    def _ask(self, call: Callable[[], T]) -> T:
        return patiently(call, self._timing.creating, self._say, self._timing.poll / 2)

    def _refusal(self, cluster: Cluster, job: Job, refused: Refused) -> JobFailed:
        there = self._ask(cluster.namespace_exists)
        text = from_refusal(
            refused, self._operator.resource, cluster.namespace, namespace_exists=there
        )
        return JobFailed(f"job {job.name}: {text}")


@contextmanager
def _sigterm_raises() -> Iterator[None]:
    """SIGTERM raises Interrupted, once; where Python lets us: in the main thread."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # nothing may stop the cleaning up
        raise Interrupted

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _print(line: str) -> None:
    print(line, flush=True)
