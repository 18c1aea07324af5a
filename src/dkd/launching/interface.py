"""Launching: one small interface to run a step's workers, whatever runs them.

A step is a *job*: ranks that ``torchrun`` starts on one or more nodes and that publish one
artifact. Three backends run jobs:

* ``local``: torchrun on this machine (or in this pod);
* ``trainjob``: Kubeflow Trainer v2, the default on a cluster;
* ``pytorchjob``: Training Operator v1, for clusters that have no Trainer.

    launching.launcher(scenario.launch).run(job)

returns when the job is complete *and* its result's manifest is there; everything else is a
:class:`JobFailed` whose message a person can act on, or :class:`Interrupted`.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from dkd.errors import UserError

MAX_NAME = 45
"""Characters of a job's name: the controllers append to it, and pod names end at 63."""

LAST_LINES = 15
"""Lines of a failed rank that are told."""

_NAME = re.compile(r"[a-z]([a-z0-9-]*[a-z0-9])?")


class JobFailed(UserError):  # noqa: N818 - says what happened, as Interrupted does
    """A job that did not publish its result.

    The first line of the message says what happened; the failing rank's last lines follow.
    """


class Interrupted(SystemExit):
    """SIGTERM came while a job ran; its workers have been stopped.

    A ``SystemExit`` with status 143, so that callers unwind and the process ends.
    """

    def __init__(self) -> None:
        super().__init__(143)


@dataclass(frozen=True)
class Job:
    """What one step runs.

    Attributes:
        name: RFC 1035 name of at most 45 characters, unique for what the job makes; a launch under
            the name of a job that still runs adopts that one.
        module: Python module of the worker, e.g. ``dkd.train``.
        arguments: its command line; shown in process lists and manifests, so no secrets.
        environment: extra variables of the workers; no secrets either.
        result: URI of the artifact whose manifest proves success.
    """

    name: str
    module: str
    arguments: tuple[str, ...]
    result: str
    environment: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if len(self.name) > MAX_NAME or not _NAME.fullmatch(self.name):
            raise UserError(
                f"job name {self.name!r}: write at most {MAX_NAME} lower-case letters, digits "
                "and dashes, starting with a letter and not ending with a dash"
            )


class Launcher(Protocol):
    """Runs jobs."""

    def run(self, job: Job) -> None:
        """Runs a job to its end, streaming rank 0's log to standard output.

        Raises:
            JobFailed: it ended otherwise than with its result published.
            Interrupted: SIGTERM came.
            KeyboardInterrupt: SIGINT came.
        """


def is_published(job: Job) -> bool:
    """Whether the artifact that proves the job's success is there, whole."""
    from dkd.storage import artifacts

    return artifacts.find(job.result) is not None


def require_result(job: Job) -> None:
    """Checks that a job which ended well has published its result.

    Raises:
        JobFailed: it has not.
    """
    if not is_published(job):
        raise JobFailed(
            f"job {job.name} ended without an error but published nothing at {job.result}; "
            "look for a warning in its log and run it again"
        )
