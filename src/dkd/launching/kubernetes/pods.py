"""What the pods of a job tell: pure readings of their JSON.

Pod lifecycle: https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/ ; conditions set
when something takes a pod away: .../disruptions/#pod-disruption-conditions .
"""

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

from dkd.launching.interface import LAST_LINES
from dkd.launching.kubernetes.api import Object
from dkd.log import event_lines

PodState = Literal["pending", "starting", "running", "unreachable", "ending", "succeeded", "failed"]

Cause = Literal["killed", "error", "stopped"]

_STOPPED = 128 + 15  # exit code after SIGTERM


@dataclass(frozen=True)
class Death:
    """How a node's pod ended.

    Attributes:
        node: its number in the job.
        pod: its name.
        cause: ``killed`` from outside the program (memory, eviction, lost node, a signal to a
            rank), ``error`` in the program, or ``stopped`` because it was told to.
        what: the cause in words, e.g. ``ran out of memory``.
        lines: the last lines of the rank that failed, or of the pod.
        at: when, in seconds or as a time stamp; comparable with others of the same kind.
        bad_input: the program said in its last line what is wrong with its input.
        final: it said that trying again is no use.
    """

    node: int
    pod: str
    cause: Cause
    what: str
    lines: tuple[str, ...]
    at: str
    bad_input: bool = False
    final: bool = False


def state(pod: Object) -> PodState:
    """One word for where the pod is in its life."""
    phase = pod["status"].get("phase", "Pending")
    if phase == "Succeeded":
        return "succeeded"
    if phase == "Failed":
        return "failed"
    if unreachable_since(pod):
        return "unreachable"
    if pod["metadata"].get("deletionTimestamp"):
        return "ending"
    if phase == "Pending":
        return "starting" if pod["spec"].get("nodeName") else "pending"
    return "running"


def unreachable_since(pod: Object) -> str | None:
    """Since when the pod's node does not answer; None if it does.

    A node that is gone leaves its pods "running": first the control plane takes their readiness
    away (our pods have no probe that could), then it asks for their end, which nobody confirms.
    """
    if pod["status"].get("phase") != "Running":
        return None
    taken = condition(pod, "DisruptionTarget")
    if taken and taken["status"] == "True" and taken.get("reason") == "DeletionByTaintManager":
        return str(taken["lastTransitionTime"])
    ready = condition(pod, "Ready")
    runs = any("running" in each.get("state", {}) for each in _statuses(pod))
    if ready and ready["status"] != "True" and runs and not _being_deleted(pod):
        return str(ready["lastTransitionTime"])
    return None


def death(pod: Object, node: int, log: str = "") -> Death | None:
    """How the pod ended, if it did otherwise than well.

    Args:
        pod: its JSON.
        node: its number in the job.
        log: the end of its log, if that could still be read. It tells of a rank that a signal
            ended even if its peers were the ones to leave last words.
    """
    if pod["status"].get("phase") != "Failed":
        return None
    terminated = [each.get("state", {}).get("terminated") for each in _statuses(pod)]
    bad = next((each for each in terminated if each and each.get("exitCode")), None)
    at = (bad or {}).get("finishedAt") or pod["metadata"].get("creationTimestamp", "")
    made = partial(Death, node, pod["metadata"]["name"])
    if taken := _taken_away(pod):
        return made("killed", taken, (), at)
    if _being_deleted(pod):
        what = f"was told to stop: its pod {pod['metadata']['name']} was deleted"
        return made("stopped", what, (), at)
    if bad is None:
        why = pod["status"].get("message") or pod["status"].get("reason") or "no reason given"
        return made("killed", f"ended: {why}", (), at)
    words = last_words(bad.get("message", ""))
    if killed := _KILLED.search(log):
        words = LastWords(words.lines, int(killed[1]), "", killed[2])
    if bad.get("reason") == "OOMKilled":
        limit = _memory_limit(pod)
        what = f"ran out of memory{f' (limit {limit})' if limit else ''}"
        return made("killed", what, words.lines, at)
    if bad.get("reason") in ("StartError", "ContainerCannotRun"):
        return made("error", "could not start", words.lines, at)
    cause, what = _of_program(bad, words)
    return made(cause, what, words.lines, words.at or at, words.bad_input, words.final)


def _taken_away(pod: Object) -> str:
    """What took the pod from its machine, in words; empty if nothing did."""
    status, host = pod["status"], pod["spec"].get("nodeName", "an unknown machine")
    if status.get("reason") == "Evicted":
        why = " ".join(status.get("message", "").split())
        hint = " (launch.scratch)" if 'EmptyDir volume "scratch"' in why else ""
        return f"was evicted from {host}: {why}{hint}"
    taken = condition(pod, "DisruptionTarget")
    if taken and taken["status"] == "True":
        return f"was taken from {host} ({taken.get('reason')}: {taken.get('message', '')})"
    return ""


def _of_program(terminated: Object, words: "LastWords") -> tuple[Cause, str]:
    """The cause and what to call it where the program itself ended."""
    code = terminated["exitCode"]
    if words.signal:
        return "killed", f"lost rank {words.rank} to {words.signal}"
    stopped = code == _STOPPED or terminated.get("signal") == 15
    what = f"failed with exit code {code}" if words.rank is None else f"failed in rank {words.rank}"
    return "stopped" if stopped else "error", what


@dataclass(frozen=True)
class LastWords:
    """What a container's termination message says about a rank's death."""

    lines: tuple[str, ...]
    rank: int | None = None
    at: str = ""
    signal: str = ""
    bad_input: bool = False
    final: bool = False


def last_words(message: str) -> LastWords:
    """Reads a termination message.

    It is what :func:`dkd.launching.rank.last_words` wrote, or, if no rank could write
    anything (SIGKILL), the end of the container's log, in which torchrun lists its dead.
    """
    try:
        said = json.loads(message)
        bad_input = bool(said["bad_input"])
        final = bool(said.get("final", bad_input))  # a worker of an earlier release says it so
        return LastWords(tuple(said["lines"]), said["rank"], said["time"], "", bad_input, final)
    except (ValueError, TypeError, KeyError):
        pass
    told = event_lines(message.splitlines())
    lines = tuple(line for line in told if line.strip())[-LAST_LINES:]
    killed = _KILLED.search(message)
    if killed:
        return LastWords(lines, int(killed[1]), "", killed[2])
    return LastWords(lines)


# How torchrun lists a rank that a signal ended:
#     rank      : 1 (local_rank: 1)
#     exitcode  : -9 (pid: 123)
#     error_file: <N/A>
#     traceback : Signal 9 (SIGKILL) received by PID 123
_KILLED = re.compile(
    r"rank +: (\d+) [^\n]*\n *exitcode +: -\d+ [^\n]*\n[^\n]*\n[^\n]*\((SIG(?!TERM)[A-Z]+)\)"
)


def first_death(deaths: Iterable[Death]) -> Death:
    """The death that explains the others: a final one, then outside causes, then the earliest."""
    order: Sequence[Cause] = ("killed", "error", "stopped")
    return min(deaths, key=lambda each: (not each.final, order.index(each.cause), each.at))


def condition(pod: Object, kind: str) -> Object | None:
    """The pod's condition of a type."""
    conditions: list[Object] = pod["status"].get("conditions") or []
    return next((each for each in conditions if each["type"] == kind), None)


def waiting_container(pod: Object) -> Object | None:
    """Name, reason, message and image of the first container that cannot start."""
    for each in _statuses(pod):
        waiting = each.get("state", {}).get("waiting", {})
        if waiting.get("reason") not in (None, "ContainerCreating", "PodInitializing"):
            return {"name": each["name"], "image": each.get("image", ""), **waiting}
    return None


def _statuses(pod: Object) -> list[Object]:
    status = pod["status"]
    return [*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])]


def _being_deleted(pod: Object) -> bool:
    return bool(pod["metadata"].get("deletionTimestamp"))


def _memory_limit(pod: Object) -> str:
    limits = (each.get("resources", {}).get("limits") or {} for each in pod["spec"]["containers"])
    return next((str(limit["memory"]) for limit in limits if "memory" in limit), "")
