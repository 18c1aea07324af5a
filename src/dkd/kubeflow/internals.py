"""What Kubeflow Pipelines and Argo Workflows promise nobody: the one module that knows it.

How a workflow's nodes and pods are named, what KFP's programs print around a component's own
lines, at which addresses the API server hands these out. As in KFP 2.16 and 2.17 with Argo 3.7
and 4.0; read from https://github.com/kubeflow/pipelines and
https://github.com/argoproj/argo-workflows, and seen on servers. (The annotation by which a pod is
told to end is written when a pipeline is compiled: :mod:`dkd.pipelines.policy`.)

KFP's own account of a run's tasks (``run_details.task_details``) is a second choice: 2.17 copies it
from the workflow's nodes, keeps of each the name alone without its place, no pod and no
message, and does not unpack ``compressedNodes``, so that it says nothing of a large run.
"""

import base64
import builtins
import gzip
import json
import logging
import os
import re
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dkd.log import event_lines

Json = dict[str, Any]
"""An object, as an API hands it out."""

UI_SERVICE = "ml-pipeline-ui"
"""Service of the UI, in the namespace where Kubeflow Pipelines is installed."""
IN_CLUSTER = "http://ml-pipeline.kubeflow:8888"
"""The API server, as pods reach it by default."""
POD_TOKEN = Path("/var/run/secrets/kubeflow/pipelines/token")
"""Token of a pod's account, where a cluster hands it out for Kubeflow Pipelines."""
CONTAINER = "main"
"""A pod's container that runs the component, or KFP's driver: Argo's name for it."""
EXECUTOR = "kfp.dsl.executor_main"
"""Module that runs a component, in pods and under the local runner; its command line names it."""


def pod_selector(run: str) -> str:
    """Label of a run's pods."""
    return f"pipeline/runid={run}"


# ---- a run's workflow


@dataclass(frozen=True)
class Started:
    """A task of a run, or the driver that KFP runs before it, once it has started.

    Attributes:
        place: names of the tasks that it is in, outermost first, and its own; none is the run
            itself.
        driver: it is the driver of what has this place.
        state: in the words of Argo or the API, in small letters: pending, running, succeeded,
            failed, error, ...; pending also if its newest pod does not run yet.
        started: ISO time.
        ended: ISO time, or empty.
        pods: its pods' names, in the order in which they started.
        namespace: theirs.
        message: what it waits for or failed of, in the cluster's words.
    """

    place: tuple[str, ...]
    driver: bool
    state: str
    started: str
    ended: str
    pods: tuple[str, ...]
    namespace: str
    message: str


def workflow_path(run: str) -> str:
    """Address of a run's workflow: of the API's older version, which alone hands it out."""
    return f"/apis/v1beta1/runs/{run}"


def workflow_in(answer: bytes) -> Json | None:
    """The workflow in what that address answers; None if it is none, or its nodes are not in it.

    Argo leaves them out where it is told to keep them in a database of its own.
    """
    try:
        manifest = json.loads(answer)["pipeline_runtime"]["workflow_manifest"]
        found: Json = json.loads(manifest)
        offloaded = found.get("status", {}).get("offloadNodeStatusVersion")
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    return None if offloaded else found


def started(workflow: Json) -> list[Started]:
    """What has started of a run, as its workflow says.

    Argo names a node by its place: ``w.root.step-0.train``, and a pod in it
    ``w.root.step-0.train.executor``. A task that is retried has a node of type ``Retry`` of that
    name and one for each attempt with its number after it: ``...executor(0)``. Where the
    installation gives every template retries, as KFP's own does from 2.17 on, so have all nodes
    above it: ``w(0).root(0).step-0(0).train(0).executor(0)``.
    """
    name = workflow["metadata"]["name"]
    places: dict[tuple[str, ...], list[Json]] = defaultdict(list)
    for node in _nodes(workflow).values():
        places[_place(name, node["name"])].append(node)
    found = []
    for place, nodes in places.items():
        if place[-1:] == ("executor",) or place == ():
            continue
        driver = place[-1].endswith("-driver")
        pods = _pods(nodes if driver else places.get((*place, "executor"), []))
        of_run = (*place[:-1], place[-1].removesuffix("-driver")) if driver else place
        if of_run[0] != "root" or (state := _state(nodes, pods)) is None:
            continue
        last = _last(nodes)
        messages = [each.get("message") for each in (*reversed(pods), last)]
        found.append(
            Started(
                place=of_run[1:],
                driver=driver,
                state=state,
                started=min(filter(None, map(_started, nodes)), default=""),
                ended=last.get("finishedAt") or "",
                pods=tuple(_pod_name(workflow, each) for each in pods),
                namespace=workflow["metadata"].get("namespace", ""),
                message=next(filter(None, messages), ""),
            )
        )
    return found


def _nodes(workflow: Json) -> Json:
    """The nodes by id. Large ones Argo packs: base64 of gzip of the same JSON."""
    status = workflow.get("status") or {}
    if packed := status.get("compressedNodes"):
        unpacked: Json = json.loads(gzip.decompress(base64.b64decode(packed)))
        return unpacked
    return status.get("nodes") or {}


def _place(workflow: str, node: str) -> tuple[str, ...]:
    """A node's place below the workflow, whichever attempt it is."""
    parts = node.removeprefix(workflow).split(".")
    return tuple(_without_attempt(part) for part in parts[1:])


def _without_attempt(name: str) -> str:
    return re.sub(r"\(\d+\)$", "", name)


def _started(node: Json) -> str:
    return node.get("startedAt") or ""


def _pods(nodes: Iterable[Json]) -> list[Json]:
    return sorted((each for each in nodes if each["type"] == "Pod"), key=_started)


def _last(nodes: Iterable[Json]) -> Json:
    """Of a task's nodes the one that tells how it is: its attempts' common one, or the last."""
    return max(nodes, key=lambda node: (node["type"] == "Retry", _started(node)))


def _state(nodes: Sequence[Json], pods: Sequence[Json]) -> str | None:
    phase = str(_last(nodes)["phase"])
    if phase in ("Omitted", "Skipped"):
        return None
    waits = pods and pods[-1]["phase"] == "Pending" and phase in ("Running", "Pending")
    return "pending" if waits else phase.lower()


def _pod_name(workflow: Json, node: Json) -> str:
    """As Argo makes it: https://argo-workflows.readthedocs.io, pod names version 2."""
    template = node.get("templateName") or node.get("templateRef", {}).get("template", "")
    return f"{workflow['metadata']['name']}-{template}-{node['id'].rpartition('-')[2]}"


def started_by_name(run: Json) -> list[Started]:
    """What has started of a run, as the API itself says: by name alone, and no pods.

    Args:
        run: as the API has it.

    Returns:
        Tasks whose place is their own name.
    """
    names: dict[str, list[Json]] = defaultdict(list)
    for task in (run.get("run_details") or {}).get("task_details") or []:
        names[_without_attempt(task.get("display_name", ""))].append(task)
    found = []
    for name, tasks in names.items():
        last = max(tasks, key=lambda task: task.get("start_time") or "")
        ended = last.get("end_time") or ""
        found.append(
            Started(
                place=(name.removesuffix("-driver"),),
                driver=name.endswith("-driver"),
                state=str(last.get("state", "")).removeprefix("RUNTIME_STATE_").lower(),
                started=min(task.get("start_time") or "" for task in tasks),
                ended="" if ended.startswith(("0001-", "1970-")) else ended,  # for: not yet
                pods=(),
                namespace="",
                message=str((last.get("error") or {}).get("message", "")),
            )
        )
    return found


# ---- what pods print


def log_addresses(run: str, pod: str, namespace: str, day: str) -> Iterator[tuple[str, Json]]:
    """Where a pod's log may be read, path and query.

    Args:
        run: its id.
        pod: its name.
        namespace: the pod's.
        day: on which the pod started, as ``2026-11-24``: kept logs are looked up by it.
    """
    yield f"/apis/v1alpha1/runs/{run}/nodes/{pod}/log", {}  # the API server's own
    # The UI does not hand the first one on.
    query = {"podname": pod, "runid": run, "podnamespace": namespace, "createdat": day}
    yield "/k8s/pod/logs", query


def is_log(text: str) -> bool:
    """Whether such an address answered with a log, rather than with an error or a page."""
    return not text.startswith(('{"error', "<"))


def component_lines(log: str) -> Iterator[str]:
    """A pod's log without what KFP's launcher and executor and Argo say around the component's.

    Some of it is JSON of many lines, up to the brace that closes it at a line's beginning.
    """
    inside = False
    for line in log.splitlines():
        if inside and (not line or line[0] in " {}"):
            inside = line != "}"
        elif _AROUND.match(line):
            inside = line.endswith(("{", "Got executor_input:"))
        else:
            inside = False
            yield line


_AROUND = re.compile(r"[IWEF]\d{4} \d\d:\d\d:|\[KFP Executor|time=\"?\d{4}-")


def last_words(log: str) -> str:
    """What a pod printed last that tells of its end: of KFP's own programs, or the component."""
    fatal = re.findall(r"^F\d{4} [^\]]*\] (.+)", log, re.MULTILINE)
    lines = event_lines(component_lines(log))
    own = [each.strip() for each in lines if not each.startswith("Error: exit")]
    return next(iter([*reversed(fatal), *reversed(own)]), "")


def lacks_launcher(line: str) -> bool:
    """Whether a line says that a component's image has no ``kfp`` to run it."""
    return "No module named 'kfp" in line


# ---- the local runner

RunComponent = Callable[[str, Sequence[str], Mapping[str, str]], int]
"""Takes a component's source, the arguments of KFP's executor and variables; its exit status."""


def run_components_with(run: RunComponent) -> None:
    """Has KFP's local runner, in this process, run components so. By itself it starts the command
    of their pods for each: a shell, and a Python that imports everything anew.
    """
    from kfp.local import subprocess_task_handler

    def run_command(full_command: list[str], env_vars: dict[str, str] | None = None) -> int:
        # sh -c SCRIPT SOURCE ARGUMENT..., whose script writes the source to a file for the executor
        _shell, _flag, _script, source, *arguments = full_command
        return run(source, arguments, env_vars or {})

    subprocess_task_handler.run_local_subprocess = run_command


def execute(program: Path, arguments: Sequence[str]) -> None:
    """Is KFP's executor from here on, in a fork of a process that runs a pipeline.

    Args:
        program: file with the source of the component's function.
        arguments: the executor's.
    """
    from kfp.dsl import executor_main

    # What the runner changes while a component runs.
    builtins.print = _print
    logging.getLogger().handlers.clear()
    sys.stdout, sys.stderr = (os.fdopen(number, "w", buffering=1) for number in (1, 2))
    sys.argv = [EXECUTOR, "--component_module_path", str(program), *arguments]
    os.environ["_KFP_RUNTIME"] = "true"
    executor_main.executor_main()


_print = builtins.print


class LocalOutput:
    """Tells a component's lines from those of KFP's local runner around them.

    The runner prints each executor's whole input as JSON and its own progress.
    """

    def __init__(self) -> None:
        self._in_component = self._in_json = False

    def own(self, line: str) -> str | None:
        """The line as the component printed it; None if it is the runner's."""
        if _RUNNER.match(line):
            self._in_component = line.endswith("Streamed logs:")
        if not self._in_component:
            return None
        line = line.removeprefix("    ")  # the runner indents what components print
        if self._in_json:
            self._in_json = line != "}"
            return None
        if line == "{":
            self._in_json = True
            return None
        return None if line.startswith("[KFP Executor") or _RUNNER.match(line) else line


_RUNNER = re.compile(r"\d\d:\d\d:\d\d\.\d{3} - ")
