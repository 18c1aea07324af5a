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
from dkd.scenario.schema import Launch


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
        self._listed = self._looked = -float("inf")
        self._deaths: dict[str, pods.Death] = {}
        self._unreadable: set[str] = set()  # dead pods whose log was asked for in vain
        self._log = LogReader(cluster, operator.container, say)
        self._told_state = ""
        self._problems: dict[str, tuple[Problem, float, float]] = {}  # with first seen, last said
        self._away_since: float | None = None
        self._told_away = False
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
                self._is_back()
                complete = self._take_in(found)
            except Unavailable as error:
                self._is_away(error)
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
        found = problems.from_pods(numbered, self._cluster.namespace)
        now = time.monotonic()
        if now > self._looked + self._timing.events:
            self._looked = now
            found += self._problems_of_events(status, numbered)
        else:  # as at the last look
            found += [each for each, *_ in self._problems.values() if each.about.startswith("@")]
        self._tell(found, now)

    def _problems_of_events(
        self, status: Status, numbered: list[tuple[int, Object]]
    ) -> list[Problem]:
        namespace, name = self._cluster.namespace, self._job.name
        if status.state == "suspended":
            workloads = [
                each
                for each in self._cluster.events("involvedObject.kind=Workload")
                if f"-{name}-" in each["involvedObject"].get("name", "")
            ]
            since = (status.condition or {}).get("lastTransitionTime", "")
            held = problems.from_queue(
                since,
                self._launch.queue,
                f"{self._operator.resource.full_name}/{name}",
                namespace,
                workloads,
            )
            return [_of_events(held)]
        names = list(self._operator.objects_with_events(name))
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
        return [_of_events(each) for each in problems.from_events(events, created, namespace)]

    def _tell(self, found: Iterable[Problem], now: float) -> None:
        current: dict[str, tuple[Problem, float, float]] = {}
        for problem in found:
            _, first, said = self._problems.get(problem.about, (None, now, -float("inf")))
            if now > said + self._timing.remind:
                self._say(f"{self._job.name}: {problem.text}")
                said = now
            current[problem.about] = (problem, first, said)
            if now - first > problem.patience / self._timing.hurry:
                raise Lost(f"job {self._job.name}: {problem.text}", give_up=True, final=True)
        self._problems = current

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
            why = "".join(f"; {problem.text}" for problem, *_ in self._problems.values())
            raise Lost(
                self._message(
                    f"passed its deadline (launch.deadline={self._launch.deadline} s) and was "
                    f"deleted{why}; run it again with more time, it goes on from its last save"
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

    # ---- an API server that is away

    def _is_away(self, error: Unavailable) -> None:
        now = time.monotonic()
        if self._away_since is None:
            self._away_since = now
        elif now - self._away_since > 2 * self._timing.poll and not self._told_away:
            self._say(
                f"{self._job.name}: the API server does not answer ({error}); the job goes on "
                "meanwhile, trying again"
            )
            self._told_away = True
        time.sleep(min(10.0, self._timing.poll))

    def _is_back(self) -> None:
        if self._told_away and self._away_since is not None:
            away = time.monotonic() - self._away_since
            self._say(f"{self._job.name}: the API server answers again, after {away:.0f} s")
        self._away_since, self._told_away = None, False


def _of_events(problem: Problem) -> Problem:
    """Marks a problem that is looked for less often."""
    return Problem(f"@{problem.about}", problem.text, problem.patience)


def _created(pod: Object) -> str:
    return str(pod["metadata"]["creationTimestamp"])


def _active_since(found: Object) -> datetime:
    """When the job was last released from a queue, or else created."""
    stamp = found["metadata"]["creationTimestamp"]
    for each in (found.get("status") or {}).get("conditions") or []:
        if each["type"] == "Suspended" and each["status"] == "False":
            stamp = max(stamp, each["lastTransitionTime"])
    return datetime.fromisoformat(stamp)
