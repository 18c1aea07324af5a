"""A run's graph: which of the pipeline's tasks have started, and how they are."""

from collections.abc import Sequence
from dataclasses import dataclass

from dkd.submitting.endpoint import Endpoint, Object


@dataclass(frozen=True)
class Node:
    """A task of a run that has started.

    Attributes:
        title: as the graph shows it, after its step's.
        state: pending (its pod does not run yet), running, succeeded, failed, ...
        started: ISO time.
        ended: ISO time, or empty.
        pods: its pods' names, in the order in which they started.
        message: what it waits for or failed of, in the cluster's words.
    """

    title: str
    state: str
    started: str
    ended: str
    pods: tuple[str, ...]
    message: str

    def __str__(self) -> str:
        why = f": {self.message}" if self.state != "running" and ": " in self.message else ""
        return f"{self.state:<10} {self.title}{why}"

    @property
    def times(self) -> str:
        """When it started and ended, in UTC."""
        return self.started[11:19] + (f" - {self.ended[11:19]}" if self.ended else "")


def graph(endpoint: Endpoint, run: Object) -> list[Node]:
    """The tasks of a run that have started, in the order in which they did.

    Where they stand in the pipeline is known to the workflow alone, which the API's older version
    hands out; without it the list is empty.
    """
    workflow = endpoint.workflow(run["run_id"])
    return nodes(workflow, pipeline_spec(endpoint, run)) if workflow else []


def pipeline_spec(endpoint: Endpoint, run: Object) -> Object:
    """The specification of a run's pipeline."""
    found = run.get("pipeline_spec")
    if not found:
        reference = run["pipeline_version_reference"]
        version = reference["pipeline_version_id"]
        path = f"pipelines/{reference['pipeline_id']}/versions/{version}"
        found = endpoint.get(path)["pipeline_spec"]
    spec: Object = found.get("pipeline_spec", found)
    return spec


def nodes(workflow: Object, spec: Object) -> list[Node]:
    """A workflow's nodes that stand for a component's task, with their titles.

    Args:
        workflow: of Argo. Its nodes are named by their place: ``w.root.step-2.train.executor``.
        spec: of the pipeline, whose tasks they are.
    """
    name = workflow["metadata"]["name"]
    known = (workflow.get("status") or {}).get("nodes") or {}
    found = []
    for node in known.values():
        place = node["name"].split(".")
        title = _title(place[2:], spec) if place[:2] == [name, "root"] else None
        if title is None:
            continue
        pods = sorted(
            (
                each
                for each in known.values()
                if each["type"] == "Pod" and each["name"].startswith(f"{node['name']}.executor")
            ),
            key=lambda each: each.get("startedAt") or "",
        )
        messages = [each.get("message") for each in (*reversed(pods), node)]
        waits = pods and pods[-1]["phase"] == "Pending" and node["phase"] == "Running"
        found.append(
            Node(
                title=title,
                state="pending" if waits else node["phase"].lower(),
                started=node.get("startedAt") or "",
                ended=node.get("finishedAt") or "",
                pods=tuple(_pod_name(name, each) for each in pods),
                message=next(filter(None, messages), ""),
            )
        )
    return sorted(found, key=lambda node: (node.started, node.title))


def _title(place: Sequence[str], spec: Object) -> str | None:
    """Title of the task at a place; None if there is no component's task."""
    titles = []
    dag = spec["root"]["dag"]
    for depth, part in enumerate(place):
        task = dag["tasks"].get(part)
        if task is None:
            return None
        titles.append(task["taskInfo"]["name"])
        component = spec["components"][task["componentRef"]["name"]]
        if "dag" not in component:
            return " / ".join(titles) if depth == len(place) - 1 else None
        dag = component["dag"]
    return None


def _pod_name(workflow: str, node: Object) -> str:
    """As Argo makes it: https://argo-workflows.readthedocs.io, pod names version 2."""
    template = node.get("templateName") or node.get("templateRef", {}).get("template", "")
    return f"{workflow}-{template}-{node['id'].rpartition('-')[2]}"
