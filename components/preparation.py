"""What is checked and made ready before a run's first step is learned."""

import os
from collections.abc import Mapping
from typing import Any, NamedTuple

from dkd import methods
from dkd.scenario import form
from dkd.steps import stages


class PreparedRun(NamedTuple):
    """What the tasks of a run hand on.

    Attributes:
        scenario: URI of the scenario with the run's values.
        dataset: URI of the data set artifact.
        task: class names by step.
        run_name: the run's.
    """

    scenario: str
    dataset: str
    task: list[list[str]]
    run_name: str


def of_form(values: Mapping[str, Any]) -> PreparedRun:
    """Applies a form to its compiled scenario, takes the run's name, checks the data set, the task
    and the initial weights, and publishes the data set's index.

    Args:
        values: of the form, and ``scenario``, as JSON, and ``workflow``, whose name the run has
            if none is given.

    Raises:
        UserError: what is wrong with the form, the method, the data set or the task; initial
            weights are missing; the name is taken.
    """
    root, run = values["artifact_root"], values["run_name"] or values["workflow"]
    form.require_secret(values["s3_secret"], os.environ)
    filled = form.fill_in(stages.parsed(values["scenario"]), form.INCREMENTAL, values)
    resolved = methods.check(filled, source="other_settings")
    with stages.claimed(root, run, resolved):
        prepared = stages.prepare(resolved, root)
        if values["model_name"]:
            from dkd.models import catalogue

            catalogue.require_task(root, values["model_name"], prepared.task.classes)
    uri = stages.write_resolved(root, run, prepared.scenario)
    task = [list(names) for names in prepared.task.steps]
    return PreparedRun(uri, prepared.dataset, task, run)
