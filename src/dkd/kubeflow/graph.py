"""A run's graph: which of the pipeline's tasks have started, and how they are."""

from collections.abc import Sequence
from dataclasses import dataclass

from dkd.kubeflow.client import Endpoint, Object


@dataclass(frozen=True)
class Node:
    """A task of a run that has started.

    Attributes:
        title: as the graph shows it, after its step's; a driver's, which Kubeflow Pipelines runs
            before a task, only if it failed or does not start.
        state: pending (its pod does not run yet), running, succeeded, failed, ...
        started: ISO time.
        ended: ISO time, or empty.
        pods: its pods' names, in the order in which they started.
        namespace: theirs.
        message: what it waits for or failed of, in the cluster's words.
    """

    title: str
    state: str
    started: str
    ended: str
    pods: tuple[str, ...]
    namespace: str
    message: str

    def __str__(self) -> str:
        told = self.state not in ("running", "succeeded") and ": " in self.message
        why = f": {self.message}" if told else ""
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
    namespace = workflow["metadata"].get("namespace", "")
    known = (workflow.get("status") or {}).get("nodes") or {}
    found = []
    for node in known.values():
        place = node["name"].split(".")[1:]
        pods = [node]
        title: str | None
        if _is_driver_in_trouble(node):
            title = _driver_title(place, spec)
        else:
            title = _title(place[1:], spec) if place[:1] == ["root"] else None
            pods = sorted(
                (
                    each
                    for each in known.values()
                    if each["type"] == "Pod" and each["name"].startswith(f"{node['name']}.executor")
                ),
                key=lambda each: each.get("startedAt") or "",
            )
        if title is None or node["phase"] in ("Omitted", "Skipped"):
            continue
        messages = [each.get("message") for each in (*reversed(pods), node)]
        waits = pods and pods[-1]["phase"] == "Pending" and node["phase"] in ("Running", "Pending")
        found.append(
            Node(
                title=title,
                state="pending" if waits else node["phase"].lower(),
                started=node.get("startedAt") or "",
                ended=node.get("finishedAt") or "",
                pods=tuple(_pod_name(name, each) for each in pods),
                namespace=namespace,
                message=next(filter(None, messages), ""),
            )
        )
    return sorted(found, key=lambda node: (node.started, node.title))


def _is_driver_in_trouble(node: Object) -> bool:
    """Whether it is a driver's pod that failed, or waits for something that has a name."""
    if node["type"] != "Pod" or not node["name"].endswith("-driver"):
        return False
    waits = node["phase"] == "Pending" and ": " in (node.get("message") or "")
    return waits or node["phase"] in ("Failed", "Error")


def _driver_title(place: Sequence[str], spec: Object) -> str:
    """E.g. ``Step 0: 15 classes / Train (driver)``; the whole run's is ``Start (driver)``."""
    *above, last = place
    found = _at([*above[1:], last.removesuffix("-driver")], spec)
    return f"{found[0] if found else 'Start'} (driver)"


def _title(place: Sequence[str], spec: Object) -> str | None:
    """Title of the task at a place; None if there is no component's task."""
    found = _at(place, spec)
    return None if found is None or "dag" in found[1] else found[0]


def _at(place: Sequence[str], spec: Object) -> tuple[str, Object] | None:
    """Title and component of the task at a place; None if there is none."""
    titles = []
    component: Object = spec["root"]
    for part in place:
        task = component.get("dag", {}).get("tasks", {}).get(part)
        if task is None:
            return None
        titles.append(task["taskInfo"]["name"])
        component = spec["components"][task["componentRef"]["name"]]
    return " / ".join(titles), component


def _pod_name(workflow: str, node: Object) -> str:
    """As Argo makes it: https://argo-workflows.readthedocs.io, pod names version 2."""
    template = node.get("templateName") or node.get("templateRef", {}).get("template", "")
    return f"{workflow}-{template}-{node['id'].rpartition('-')[2]}"
