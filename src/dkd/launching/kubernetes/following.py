"""Following a running job: rank 0's log, every node's state, what is in the way, how it ends.

One loop without threads. Each turn watches the job's pods for a moment (so that no death is
missed, though the operator removes dead pods at once), then reads rank 0's new lines, then the
job's conditions and, while something is amiss, its events.
"""

import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime

from dkd.launching.interface import Job
from dkd.launching.kubernetes import pods, problems
from dkd.launching.kubernetes.api import Cluster, Object, Refused, Unavailable
from dkd.launching.kubernetes.logs import LogReader, plain
from dkd.launching.kubernetes.operators import Operator, Status
from dkd.launching.kubernetes.problems import Problem
from dkd.scenario.launch import Launch


@dataclass(frozen=True)
class Timing:
    """How often and how long, in seconds.

    Attributes:
        poll: length of a turn.
        events: between looks at the events.
        relist: between full lists of the pods.
        creating: patience with an API server that does not answer while a job is created.
        deleting: likewise on the way out; a pod that is told to stop has 30 s in all.
        ending: patience with an earlier job that is being deleted.
        remind: between repetitions of what is in the way.
        hurry: divides every problem's patience.
    """

    poll: float = 2.0
    events: float = 5.0
    relist: float = 30.0
    creating: float = 300.0
    deleting: float = 20.0
    ending: float = 900.0
    remind: float = 600.0
    hurry: float = 1.0


class Lost(Exception):  # noqa: N818 - the job is; the launcher decides what follows
    """The job ended without success, or has to be given up.

    Attributes:
        give_up: it still exists and must be deleted.
        final: starting again would be no use; so is everything given up.
        gone: somebody deleted it; perhaps another launching task, after its success.
    """

    def __init__(
        self, message: str, *, give_up: bool = False, final: bool = False, gone: bool = False
    ) -> None:
        super().__init__(message)
        self.give_up, self.final, self.gone = give_up, final, gone


class Following:
    """One life of a job, from creation or adoption to its end."""

    def __init__(
        self,
        cluster: Cluster,
        operator: Operator,
        launch: Launch,
        job: Job,
        found: Object,
        timing: Timing,
        say: Callable[[str], None],
    ) -> None:
        self._cluster, self._operator, self._launch = cluster, operator, launch
        self._job, self._found, self._timing, self._say = job, found, timing, say
        self._pods: dict[str, Object] = {}
        self._version = ""
        self._listed = -float("inf")
        self._deaths: dict[str, pods.Death] = {}
        self._unreadable: set[str] = set()  # dead pods whose log was asked for in vain
        self._log = LogReader(cluster, operator.container, say)
        self._told_state = ""
        self._obstacles = _Obstacles(job.name, timing, say)
        self._absence = _Absence(job.name, timing, say)
        self._attempt = 0

    def follow(self) -> None:
        """Returns when the job is complete.

        Raises:
            Lost: it failed, disappeared or has to be given up.
        """
        while True:
            try:
                self._watch()
                self._read_log()
                found = self._cluster.get(self._operator.resource, self._job.name)
                self._absence.ends()
                complete = self._take_in(found)
            except Unavailable as error:
                self._absence.goes_on(error)
                continue
            except Refused as refused:
                raise Lost(
                    f"job {self._job.name}: cannot be followed: {refused}; bind the role of k8s/ "
                    "to this account",
                    give_up=True,
                    final=True,
                ) from None
            if complete:
                self._log.finish()
                return

    # ---- one turn

    def _take_in(self, found: Object | None) -> bool:
        """Acts on the job's state; True when it is complete."""
        if found is None or found["metadata"]["uid"] != self._found["metadata"]["uid"]:
            raise Lost(self._message("was deleted by someone else"), final=True, gone=True)
        self._found = found
        status = self._operator.status(found)
        if status.state == "complete":
            return True
        if status.state == "failed":
            self._list()  # deaths since the last watch
            self._log.finish()
            raise self._failure(status)
        self._refuse_to_restart()
        self._check_deadline(status)
        self._say_states(status)
        self._look_for_problems(status)
        return False

    def _watch(self) -> None:
        """Brings the pods up to date and lets a turn's time pass."""
        selector = self._operator.selector(self._job.name)
        started = time.monotonic()
        if not self._version or started > self._listed + self._timing.relist:
            self._list()
        try:
            seconds = max(1, round(self._timing.poll))
            for change, pod in self._cluster.pod_changes(selector, self._version, seconds):
                self._version = pod["metadata"]["resourceVersion"]
                self._note(change, pod)
                if time.monotonic() > started + self._timing.poll:
                    break  # a busy moment; log and job are due
        except Unavailable:
            self._version = ""  # expired, or the server is away: the next list will tell
        time.sleep(max(0.0, started + self._timing.poll - time.monotonic()))

    def _list(self) -> None:
        listed, self._version = self._cluster.pods(self._operator.selector(self._job.name))
        self._listed = time.monotonic()
        for uid in set(self._pods) - {each["metadata"]["uid"] for each in listed}:
            del self._pods[uid]
        for pod in listed:
            self._note("MODIFIED", pod)

    def _note(self, change: str, pod: Object) -> None:
        uid = pod["metadata"]["uid"]
        attempt = self._operator.attempt(pod)
        if attempt > self._attempt:
            self._say_restart(attempt)
        if change == "DELETED":
            self._pods.pop(uid, None)
        else:
            self._pods[uid] = pod
        if uid not in self._deaths and pods.state(pod) == "failed":
            death = pods.death(pod, self._operator.node(pod), plain(self._last_log(pod)))
            if death is not None and attempt == self._attempt:
                self._deaths[uid] = death
                if death.cause == "killed":  # never for a peer's sake; the job's end may be long
                    self._say(f"{self._job.name}: node {death.node} {death.what}")

    def _last_log(self, pod: Object) -> str:
        """The end of a dead pod's log; empty if it is asked for in vain twice.

        The API server has it from the pod's machine, which may be gone.
        """
        try:
            return self._cluster.log(pod["metadata"]["name"], self._operator.container, 600) or ""
        except Unavailable:
            uid = pod["metadata"]["uid"]
            if uid not in self._unreadable:
                self._unreadable.add(uid)
                raise
            return ""

    def _read_log(self) -> None:
        first = [each for each in self._pods.values() if self._operator.node(each) == 0]
        if not first:
            return
        newest = max(first, key=_created)
        if pods.state(newest) != "unreachable":
            with suppress(Unavailable):  # is it the machine or the API server? the next call tells
                self._log.read(newest)

    # ---- what is said

    def _say_restart(self, attempt: int) -> None:
        """The operator has started all ranks again."""
        self._refuse_to_restart()  # it may have been faster than we looked
        why = "a rank or a machine was lost"
        if self._deaths:
            first = pods.first_death(self._deaths.values())
            why = f"node {first.node} {first.what}" + "".join(f"\n    {x}" for x in first.lines)
        self._say(
            f"{self._job.name}: {why}\n{self._job.name}: all ranks start again from the last save "
            f"(restart {attempt} of {self._launch.max_restarts})"
        )
        self._attempt = attempt
        self._deaths = {}

    def _say_states(self, status: Status) -> None:
        """Says every node's state when one has changed."""
        if status.state == "suspended" and not self._pods:
            return  # the queue is the news
        by_node: dict[int, str] = {}
        for pod in sorted(self._pods.values(), key=_created):
            state = pods.state(pod)
            host = pod["spec"].get("nodeName")
            by_node[self._operator.node(pod)] = f"{state} on {host}" if host else state
        told = ", ".join(
            f"node {node} {by_node.get(node, 'not created')}" for node in range(self._launch.nodes)
        )
        if told != self._told_state:
            self._say(f"{self._job.name}: {told}")
            self._told_state = told

    def _look_for_problems(self, status: Status) -> None:
        """Says what is in the way; gives up on what will not change by itself."""
        numbered = [(self._operator.node(each), each) for each in self._pods.values()]
        of_pods = problems.from_pods(numbered, self._cluster.namespace)
        of_events = None
        if self._obstacles.events_are_due():
            suspended = status.state == "suspended"
            of_events = [self._held(status)] if suspended else self._problems_of_events(numbered)
        self._obstacles.tell(of_pods, of_events)

    def _held(self, status: Status) -> Problem:
        """What a queue says of the job that it holds."""
        name, namespace = self._job.name, self._cluster.namespace
        workloads = [
            each
            for each in self._cluster.events("involvedObject.kind=Workload")
            if f"-{name}-" in each["involvedObject"].get("name", "")
        ]
        return problems.from_queue(
            (status.condition or {}).get("lastTransitionTime", ""),
            self._launch.queue,
            f"{self._operator.resource.full_name}/{name}",
            namespace,
            workloads,
        )

    def _problems_of_events(self, numbered: list[tuple[int, Object]]) -> list[Problem]:
        """What the events tell of objects that create pods, and of pods that do not start."""
        names = list(self._operator.objects_with_events(self._job.name))
        if len(numbered) >= self._launch.nodes:  # they were all created
            names = []
        names += [
            each["metadata"]["name"] for _, each in numbered if pods.state(each) == "starting"
        ]
        events = [
            event
            for object_name in names[:6]
            for event in self._cluster.events(f"involvedObject.name={object_name}")
        ]
        created = self._found["metadata"]["creationTimestamp"]
        return problems.from_events(events, created, self._cluster.namespace)

    # ---- how it ends

    def _refuse_to_restart(self) -> None:
        """Gives the job up if one of its ranks said that trying again is no use."""
        if bad := next((each for each in self._deaths.values() if each.final), None):
            self._log.finish()
            raise Lost(self._death_message(bad), give_up=True, final=True)

    def _check_deadline(self, status: Status) -> None:
        if status.state == "suspended":
            return
        since = _active_since(self._found)
        active = (datetime.now(UTC) - since).total_seconds()
        if active > self._launch.deadline:
            why = "".join(f"; {text}" for text in self._obstacles.texts)
            raise Lost(
                self._message(
                    f"passed its deadline (launch.deadline={self._launch.deadline} s) and was "
                    f"deleted{why}; run it again with more time; it continues from its last save"
                ),
                give_up=True,
                final=True,
            )

    def _failure(self, status: Status) -> Lost:
        if self._deaths:
            first = pods.first_death(self._deaths.values())
            return Lost(self._death_message(first), final=first.final)
        condition = status.condition or {}
        reason = f"{condition.get('reason', '')}: {condition.get('message', '')}".strip(": ")
        return Lost(self._message(f"failed ({reason})"), final="DeadlineExceeded" in reason)

    def _death_message(self, death: pods.Death) -> str:
        if death.bad_input and death.lines:
            return death.lines[-1].removeprefix("dkd: ")
        lines = "".join(f"\n    {line}" for line in death.lines)
        see = f"kubectl logs {death.pod} -c {self._operator.container} -n {self._cluster.namespace}"
        said = "; its last lines:" + lines if lines else ""
        return f"job {self._job.name}: node {death.node} {death.what}; {see}{said}"

    def _message(self, what: str) -> str:
        resource = self._operator.resource
        return (
            f"{resource.kind} {self._job.name} {what}; "
            f"kubectl get events -n {self._cluster.namespace} "
            f"--field-selector involvedObject.name={self._job.name}"
        )


class _Obstacles:
    """What is in a job's way: said when it is new and now and then, given up on when it stays.

    What pods show is looked at in every turn, what events tell less often and remembered.
    """

    def __init__(self, job: str, timing: Timing, say: Callable[[str], None]) -> None:
        self._job, self._timing, self._say = job, timing, say
        self._looked = -float("inf")
        self._of_events: list[Problem] = []
        self._told: dict[str, tuple[Problem, float, float]] = {}  # with first seen, last said

    @property
    def texts(self) -> list[str]:
        """What was in the way at the last look."""
        return [problem.text for problem, *_ in self._told.values()]

    def events_are_due(self) -> bool:
        """Whether it is time to look at the events again."""
        now = time.monotonic()
        if due := now > self._looked + self._timing.events:
            self._looked = now
        return due

    def tell(self, of_pods: Iterable[Problem], of_events: list[Problem] | None) -> None:
        """Takes in what is in the way now; None where the events were not looked at.

        Raises:
            Lost: something has been in the way for longer than its patience.
        """
        if of_events is not None:
            self._of_events = of_events
        now = time.monotonic()
        current: dict[str, tuple[Problem, float, float]] = {}
        for source, found in (("pods", of_pods), ("events", self._of_events)):
            for problem in found:
                about = f"{source}: {problem.about}"
                _, first, said = self._told.get(about, (None, now, -float("inf")))
                if now > said + self._timing.remind:
                    self._say(f"{self._job}: {problem.text}")
                    said = now
                current[about] = (problem, first, said)
                if now - first > problem.patience / self._timing.hurry:
                    raise Lost(f"job {self._job}: {problem.text}", give_up=True, final=True)
        self._told = current


class _Absence:
    """An API server that does not answer: said once it lasts, and when it is over."""

    def __init__(self, job: str, timing: Timing, say: Callable[[str], None]) -> None:
        self._job, self._timing, self._say = job, timing, say
        self._since: float | None = None
        self._told = False

    def goes_on(self, error: Unavailable) -> None:
        """Waits a turn."""
        now = time.monotonic()
        if self._since is None:
            self._since = now
        elif now - self._since > 2 * self._timing.poll and not self._told:
            self._say(
                f"{self._job}: the API server does not answer ({error}); the job continues "
                "meanwhile, trying again"
            )
            self._told = True
        time.sleep(min(10.0, self._timing.poll))

    def ends(self) -> None:
        """It has answered."""
        if self._told and self._since is not None:
            away = time.monotonic() - self._since
            self._say(f"{self._job}: the API server answers again, after {away:.0f} s")
        self._since, self._told = None, False


def _created(pod: Object) -> str:
    return str(pod["metadata"]["creationTimestamp"])


def _active_since(found: Object) -> datetime:
    """When the job was last released from a queue, or else created."""
    stamp = found["metadata"]["creationTimestamp"]
    for each in (found.get("status") or {}).get("conditions") or []:
        if each["type"] == "Suspended" and each["status"] == "False":
            stamp = max(stamp, each["lastTransitionTime"])
    return datetime.fromisoformat(stamp)
