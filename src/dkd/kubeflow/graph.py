"""A run's graph: which of the pipeline's tasks have started, and how they are."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from dkd.kubeflow import internals
from dkd.kubeflow.client import Endpoint
from dkd.kubeflow.internals import Json, Started


@dataclass(frozen=True)
class Node(Started):
    """A task of a run that has started; a driver only if it failed or does not start.

    Attributes:
        title: as the graph shows it, after its step's.
    """

    title: str

    def __str__(self) -> str:
        told = self.state not in ("running", "succeeded") and ": " in self.message
        why = f": {self.message}" if told else ""
        return f"{self.state:<10} {self.title}{why}"

    @property
    def times(self) -> str:
        """When it started and ended, in UTC."""
        return self.started[11:19] + (f" - {self.ended[11:19]}" if self.ended else "")


def graph(endpoint: Endpoint, run: Json) -> list[Node]:
    """The tasks of a run that have started, in the order in which they did.

    Read from the run's workflow, which knows where they stand, their pods and what they wait
    for; where that is not to be had, from the API's list of tasks, which knows less.
    """
    workflow = endpoint.workflow(run["run_id"])
    started = internals.started(workflow) if workflow else internals.started_by_name(run)
    return nodes(started, pipeline_spec(endpoint, run)) if started else []


def pipeline_spec(endpoint: Endpoint, run: Json) -> Json:
    """The specification of a run's pipeline."""
    found = run.get("pipeline_spec")
    if not found:
        reference = run["pipeline_version_reference"]
        version = endpoint.version(reference["pipeline_id"], reference["pipeline_version_id"])
        found = version["pipeline_spec"]
    spec: Json = found.get("pipeline_spec", found)
    return spec


def nodes(started: Iterable[Started], spec: Json) -> list[Node]:
    """What has started of a run, with titles: components' tasks, and drivers in trouble.

    Args:
        started: in any order.
        spec: of the pipeline, whose tasks they are.
    """
    found = []
    for each in started:
        task = _at(each.place, spec) or _named(each.place, spec)
        if each.driver:
            if not _is_in_trouble(each):
                continue
            title = f"{task[0] if task and task[0] else 'Start'} (driver)"
        elif task is None or "dag" in task[1]:
            continue
        else:
            title = task[0]
        found.append(Node(**vars(each), title=title))
    return sorted(found, key=lambda node: (node.started, node.title))


def _is_in_trouble(driver: Started) -> bool:
    """Whether it failed, or waits for something that has a name."""
    waits = driver.state == "pending" and ": " in driver.message
    return waits or driver.state in ("failed", "error")


def _at(place: Sequence[str], spec: Json) -> tuple[str, Json] | None:
    """Title and component of the task at a place; None if there is none."""
    titles = []
    component: Json = spec["root"]
    for part in place:
        task = component.get("dag", {}).get("tasks", {}).get(part)
        if task is None:
            return None
        titles.append(task["taskInfo"]["name"])
        component = spec["components"][task["componentRef"]["name"]]
    return " / ".join(titles), component


def _named(place: Sequence[str], spec: Json) -> tuple[str, Json] | None:
    """The one task of a name, wherever it stands; None if there is none or several."""
    places = [each for each in _places(spec["root"], spec) if each[-1:] == tuple(place)]
    return _at(places[0], spec) if len(places) == 1 else None


def _places(component: Json, spec: Json) -> Iterator[tuple[str, ...]]:
    for name, task in component.get("dag", {}).get("tasks", {}).items():
        yield (name,)
        inside = spec["components"][task["componentRef"]["name"]]
        yield from ((name, *rest) for rest in _places(inside, spec))
