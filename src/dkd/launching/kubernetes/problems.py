"""Why a job does not start: one line each, with the object's name and the next command."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from dkd.launching.kubernetes import pods
from dkd.launching.kubernetes.api import Object, Refused, Resource, is_unknown_resource

FOR_EVER = float("inf")


@dataclass(frozen=True)
class Problem:
    """Something that keeps a job from running.

    Attributes:
        about: stays the same while the problem does.
        text: one line; names the object and the next command.
        patience: seconds after which the job is given up, because nothing will change by
            itself; infinite where waiting may help (the deadline still holds).
    """

    about: str
    text: str
    patience: float


def from_refusal(
    refused: Refused, resource: Resource, namespace: str, *, namespace_exists: bool
) -> str:
    """What to say when the API server refuses to create a job."""
    where = f"-n {namespace}"
    if not namespace_exists or refused.kind == "namespaces":
        return f"namespace {namespace} does not exist; kubectl get namespaces"
    if is_unknown_resource(refused):
        return (
            f"this cluster has no {resource.full_name}: install {_OPERATORS[resource.kind]}, or "
            f"choose another launch.backend; kubectl get crd {resource.full_name}"
        )
    if "exceeded quota" in refused.message:
        return _quota(refused.message, namespace)
    if refused.status == 403 and "denied the request" not in refused.message:
        return (
            f"namespace {namespace}: {_one_line(refused.message)}; apply k8s/ to this namespace "
            "(does it exist?), which binds its role to this account; "
            f"kubectl auth can-i create {resource.full_name} {where}"
        )
    return (
        f"namespace {namespace}: the cluster refuses the {resource.kind}: "
        f"{_one_line(refused.message)}; kubectl explain {resource.plural}.spec"
    )


_OPERATORS = {
    "TrainJob": "Kubeflow Trainer v2",
    "TrainingRuntime": "Kubeflow Trainer v2",
    "PyTorchJob": "Kubeflow Training Operator v1",
}


def from_pods(found: Iterable[tuple[int, Object]], namespace: str) -> list[Problem]:
    """Problems that the pods themselves know.

    Args:
        found: node number and pod.
        namespace: of the pods.
    """
    return [
        problem
        for node, pod in found
        if (
            problem := _unreachable(node, pod)
            or _unplaced(node, pod, namespace)
            or _stuck(node, pod, namespace)
        )
    ]


def _unreachable(node: int, pod: Object) -> Problem | None:
    since = pods.unreachable_since(pod)
    if not since:
        return None
    host = pod["spec"].get("nodeName", "")
    return Problem(
        f"unreachable {host}",
        f"node {node} of the job is lost: machine {host} has not answered since {since}, and all "
        "ranks wait for it; they start again when it is back or declared gone: "
        f"kubectl get node {host}; kubectl delete node {host}",
        FOR_EVER,
    )


def _unplaced(node: int, pod: Object, namespace: str) -> Problem | None:
    scheduled = pods.condition(pod, "PodScheduled")
    if not scheduled or scheduled["status"] == "True" or pods.state(pod) != "pending":
        return None
    name = pod["metadata"]["name"]
    message = _one_line(scheduled.get("message", ""))
    lacking = sorted(set(re.findall(r"Insufficient ([\w./-]+\w)", message)))
    wants = f" for lack of {', '.join(lacking)}" if lacking else ""
    return Problem(
        f"unplaced {node}",
        f"node {node} of the job waits{wants} since {scheduled['lastTransitionTime']}: {message}; "
        f"kubectl describe pod {name} -n {namespace}",
        FOR_EVER,
    )


_CONTAINER_PATIENCE = {
    "InvalidImageName": 0.0,
    "ErrImageNeverPull": 0.0,
    "ErrImagePull": 300.0,
    "ImagePullBackOff": 300.0,
    "RegistryUnavailable": 300.0,
    "CreateContainerConfigError": 120.0,
    "CreateContainerError": 120.0,
    "RunContainerError": 60.0,
}


def _stuck(node: int, pod: Object, namespace: str) -> Problem | None:
    waiting = pods.waiting_container(pod)
    if not waiting or waiting["reason"] not in _CONTAINER_PATIENCE:
        return None
    name = pod["metadata"]["name"]
    reason, message = waiting["reason"], _one_line(waiting.get("message", ""))
    image = "Image" in reason or "Registry" in reason
    what = (
        f"image {waiting['image']} cannot be pulled"
        if image
        else f"container {waiting['name']} cannot start"
    )
    return Problem(
        f"{'image' if image else reason} {node}",
        f"node {node} of the job: {what} ({reason}: {message}); "
        f"kubectl describe pod {name} -n {namespace}",
        _CONTAINER_PATIENCE[reason],
    )


def from_events(events: Iterable[Object], created: str, namespace: str) -> list[Problem]:
    """Problems that only events tell: pods that could not even be created, mounts that fail.

    Args:
        events: of the job's objects.
        created: the job's creation time; older events are about an earlier job of its name.
        namespace: of the job.
    """
    problems: dict[str, Problem] = {}
    for event in sorted(events, key=_time):
        if event.get("type") != "Warning" or _time(event) < created:
            continue
        if problem := _event_problem(event, namespace):
            problems[problem.about] = problem
    return list(problems.values())


def _event_problem(event: Object, namespace: str) -> Problem | None:
    message = _one_line(event.get("message", ""))
    about = event.get("involvedObject") or {}
    thing = f"{about.get('kind', 'object').lower()}/{about.get('name', '')}"
    describe = f"kubectl describe {thing} -n {namespace}"
    if "exceeded quota" in message:
        return Problem("quota", _quota(message, namespace), FOR_EVER)
    if "violates PodSecurity" in message:
        why = message[message.index("violates PodSecurity") :]
        return Problem(
            "pod security",
            f"namespace {namespace} refuses the job's pods: {why}; "
            f"kubectl get namespace {namespace} --show-labels",
            60,
        )
    missing = re.search(r'serviceaccounts? "?(?:[\w.-]+/)?([\w.-]+)"? not found', message)
    if missing:
        account = missing[1]
        return Problem(
            "service account",
            f"service account {account} does not exist in namespace {namespace}: apply k8s/, or "
            f"set launch.service_account; kubectl get serviceaccount {account} -n {namespace}",
            60,
        )
    if event.get("reason") == "FailedMount":
        return Problem("mount", f"{thing}: {message}; {describe}", 120)
    if event.get("reason") in _CREATION_FAILED:
        return Problem(
            "creation", f"{thing}: its pods cannot be created: {message}; {describe}", 60
        )
    return None


_CREATION_FAILED = (
    "FailedCreate",
    "FailedCreatePod",
    "FailedCreateService",
    "TrainJobResourcesCreationFailed",
    "JobCreationFailed",
)


def from_queue(
    since: str, queue: str, name: str, namespace: str, events: Sequence[Object]
) -> Problem:
    """A job that Kueue holds back.

    Args:
        since: when it was suspended.
        queue: its local queue; empty if somebody else suspended it.
        name: of the job.
        namespace: of the job.
        events: of the job's Workload, if they can be read.
    """
    pending = [each for each in sorted(events, key=_time) if each.get("reason") == "Pending"]
    why = f": {_one_line(pending[-1].get('message', ''))}" if pending else ""
    held = f"waits in queue {queue}" if queue else "is suspended"
    command = (
        f"kubectl get workloads -n {namespace}"
        if queue
        else f"kubectl describe {name} -n {namespace}"
    )
    return Problem("queue", f"the job {held} since {since}{why}; {command}", FOR_EVER)


def _quota(message: str, namespace: str) -> str:
    found = re.search(r"exceeded quota: ([\w.-]+)(?:, (.*))?", _one_line(message))
    name, figures = (found[1], found[2] or "") if found else ("", _one_line(message))
    return (
        f"namespace {namespace}: quota {name} is exceeded ({figures}); wait for other jobs, or ask "
        f"for less; kubectl describe quota {name} -n {namespace}"
    )


def _time(event: Object) -> str:
    """When an event happened last: RFC 3339 in UTC, so that strings compare."""
    series = (event.get("series") or {}).get("lastObservedTime")
    stamp = series or event.get("lastTimestamp") or event.get("eventTime")
    return str(stamp or event["metadata"].get("creationTimestamp") or "")


def _one_line(text: str) -> str:
    return " ".join(text.split())
