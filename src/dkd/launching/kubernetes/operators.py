"""What the cluster launcher asks of an operator, and what they share."""

from dataclasses import dataclass
from typing import Literal, Protocol

from dkd.launching.interface import Job
from dkd.launching.kubernetes.api import Cluster, Object, Resource
from dkd.scenario.launch import Launch


@dataclass(frozen=True)
class Status:
    """State of a job object.

    Attributes:
        state: ``active`` covers everything from waiting for machines to training.
        condition: the condition that says so, with ``lastTransitionTime``, ``reason`` and
            ``message``; None for ``active``.
    """

    state: Literal["active", "suspended", "complete", "failed"]
    condition: Object | None


class Operator(Protocol):
    """One operator's ways.

    Attributes:
        resource: its jobs.
        container: name of the container that trains.
        restarts_all_ranks: whether it starts all ranks again when one died.
    """

    resource: Resource
    container: str
    restarts_all_ranks: bool

    def submit(
        self, cluster: Cluster, job: Job, launch: Launch, owner: Object | None
    ) -> Object | None:
        """Creates the job; None if there is one of this name."""

    def settle(self, cluster: Cluster, found: Object) -> None:
        """Ties what belongs to the job to it, once it exists; may be repeated."""

    def remove(self, cluster: Cluster, job: str) -> None:
        """Deletes the job and what belongs to it; no matter what of it is there."""

    def selector(self, job: str) -> str:
        """Labels of the job's pods."""

    def node(self, pod: Object) -> int:
        """The pod's node number; rank 0 is on node 0."""

    def attempt(self, pod: Object) -> int:
        """How many times the operator had started all ranks again when it made this pod."""

    def objects_with_events(self, job: str) -> tuple[str, ...]:
        """Names of the objects whose events tell why pods are missing."""

    def status(self, found: Object) -> Status:
        """What the job's conditions say."""


def conditions(found: Object) -> dict[str, Object]:
    """A job's conditions that are true, by type."""
    known = (found.get("status") or {}).get("conditions") or []
    return {each["type"]: each for each in known if each["status"] == "True"}
