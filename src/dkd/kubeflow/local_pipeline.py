"""A process that runs pipelines under KFP's local runner, one after the other.

    python -m dkd.kubeflow.local_pipeline < ORDERS

The runner keeps its settings and its output in globals: several runs at once are several processes
(:mod:`dkd.kubeflow.local_processes`). Components are forks of theirs, which therefore have one
thread (:mod:`dkd.kubeflow.local_component`).
"""

import json
import os
import sys
import warnings
from collections.abc import Mapping
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from io import TextIOBase
from pathlib import Path
from typing import Any, TextIO

from dkd.errors import UserError
from dkd.kubeflow import local_component
from dkd.kubeflow.internals import LocalOutput
from dkd.kubeflow.signals import passed_on
from dkd.log import event_text
from dkd.scenario.schema import Scenario, parse

FAILED = "dkd: "
"""How the line begins that says why something failed; it may have more lines."""
ENDED = "=== ended"
"""The line by which a process says that a run is over, well or not."""


@dataclass(frozen=True)
class Planned:
    """One run of a pipeline.

    Attributes:
        name: of the run.
        scenario: that it runs; None for the pipeline that adds classes to a model.
        arguments: the pipeline's parameters, but for artifact root and run name.
        epochs: of each step that it trains or finds; empty where its teacher says.
        teacher: checkpoint to which the pipeline without a scenario adds classes.
        memory: exemplar memory that goes with it; empty without.
        settings: values by dotted field of the scenario that go with it.
    """

    name: str
    scenario: Scenario | None
    arguments: Mapping[str, Any]
    epochs: tuple[int, ...] = ()
    teacher: str = ""
    memory: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)

    def build(self) -> Any:
        """The pipeline, a KFP graph."""
        from dkd.pipelines import extension, incremental

        if self.scenario is None:
            return extension.build(teacher=self.teacher, memory=self.memory, settings=self.settings)
        return incremental.build(self.scenario)

    def order(self, root: str, workspace: Path, environment: Mapping[str, str]) -> str:
        """A line for a process of its own."""
        return json.dumps(
            {
                "name": self.name,
                "scenario": self.scenario and self.scenario.model_dump(mode="json"),
                "arguments": dict(self.arguments),
                "teacher": self.teacher,
                "memory": self.memory,
                "settings": dict(self.settings),
                "root": root,
                "workspace": str(workspace),
                "environment": dict(environment),
            }
        )


def obey(order: str) -> None:
    """Runs the pipeline of :meth:`Planned.order`; a failure is told in lines, the first of which
    begins with :data:`FAILED`.
    """
    given = json.loads(order)
    os.environ.update(given["environment"])
    try:
        scenario = given["scenario"] and parse(given["scenario"], source="")
        planned = Planned(
            given["name"],
            scenario,
            given["arguments"],
            teacher=given["teacher"],
            memory=given["memory"],
            settings=given["settings"],
        )
        run_pipeline(planned, given["root"], Path(given["workspace"]))
    except UserError as error:
        print(f"{FAILED}{error}")


def run_pipeline(planned: Planned, root: str, workspace: Path) -> None:
    """Runs a pipeline to its end; its components' lines go to standard output.

    Args:
        planned: the run.
        root: artifact root.
        workspace: folder whose ``runs/NAME`` holds the whole log.

    Raises:
        UserError: a component failed; its own line.
    """
    from kfp import local

    folder = workspace / "runs" / planned.name
    folder.mkdir(parents=True, exist_ok=True)
    local.init(
        local.SubprocessRunner(use_venv=False),
        pipeline_root=str(folder / "kfp"),
        raise_on_error=True,
    )
    pipeline = planned.build()
    with (folder / "pipeline.log").open("w", encoding="utf-8") as log:
        console = ComponentLines(sys.stdout, log)
        try:
            with redirect_stdout(console), warnings.catch_warnings():
                warnings.filterwarnings("ignore", module="kfp.local")  # what it leaves undone here
                pipeline(artifact_root=root, run_name=planned.name, **planned.arguments)
        except RuntimeError as error:
            told = console.last_error or str(error)
            raise UserError(f"{told} (whole log: {folder / 'pipeline.log'})") from None


class ComponentLines(TextIOBase):
    """Passes on what the components print; KFP's own talk goes to a log only.

    Attributes:
        last_error: what a component said from a line on that began with ``dkd:``.
    """

    def __init__(self, console: TextIO, log: TextIO) -> None:
        self._console, self._log = console, log
        self._rest = ""
        self._output = LocalOutput()
        self._error: list[str] = []

    @property
    def last_error(self) -> str:
        return "\n".join(self._error).rstrip()

    def write(self, text: str) -> int:
        self._log.write(text)
        self._log.flush()
        *lines, self._rest = (self._rest + text).split("\n")
        for line in lines:
            own = self._output.own(line.rstrip())
            if own is not None:
                self._pass_on(own)
        return len(text)

    def flush(self) -> None:
        self._console.flush()

    def _pass_on(self, line: str) -> None:
        told = event_text(line)
        if told.startswith(FAILED):
            self._error = [told.removeprefix(FAILED)]
        elif self._error:
            self._error.append(told)
        elif line:
            self._console.write(line + "\n")
            self._console.flush()


def main() -> None:
    """Runs the pipelines that standard input orders; after each comes the line :data:`ENDED`."""
    local_component.prepare()  # while nothing is ordered yet
    with passed_on(local_component.running):
        for order in sys.stdin:
            obey(order)
            print(ENDED, flush=True)


if __name__ == "__main__":
    main()
