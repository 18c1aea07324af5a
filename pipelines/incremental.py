"""The pipeline: learn classes step by step. One definition, for a cluster and for a laptop.

The DAG is built from a scenario when it is compiled, because a run-time loop carries nothing
from one step to the next. A task costs two pods and some 20 seconds on a cluster, and a sub-DAG
another pod, so a step is one task, which does and shows all of it; and the first begins with what
is to be checked before anything is trained.
"""

import copy
from typing import Any

from kfp import dsl

from dkd import methods
from dkd.components.learn_first_step.component import learn_first_step
from dkd.components.learn_step.component import learn_step
from dkd.components.report.component import report
from dkd.pipelines.policy import LAUNCHING, REPORTING, place
from dkd.scenario import catalogue, form
from dkd.scenario.schema import Scenario


def named(component: Any, name: str) -> Any:
    """A component under another name, which becomes its tasks' name.

    KFP would number them otherwise, with a first one that has no number.
    """
    other = copy.deepcopy(component)
    other.component_spec.name = name
    return other


def build(scenario: Scenario, *, on_cluster: bool = False) -> Any:
    """The pipeline of a scenario, for KFP's compiler and its local runner.

    Args:
        scenario: embedded in the pipeline; its values are the form's defaults, and what is
            filled in replaces them.
        on_cluster: else under the local runner: nothing is tried again, no workflow has a name.
    """
    alone = scenario.model_copy(update={"variants": {}})

    def incremental(*values: Any) -> None:
        given = dict(zip(parameters, values, strict=True))
        secret = given["s3_secret"]
        first = named(learn_first_step, "step-0")(
            scenario=alone.model_dump_json(),
            workflow=dsl.PIPELINE_JOB_RESOURCE_NAME_PLACEHOLDER if on_cluster else "",
            **given,
        )
        common = {
            "scenario": first.outputs["scenario"],
            "task": first.outputs["task"],
            "dataset": first.outputs["dataset"],
            "artifact_root": given["artifact_root"],
            "run_name": first.outputs["run_name"],
        }
        steps = [first]
        for number in range(1, methods.steps(scenario)):
            before = steps[-1].outputs
            step = named(learn_step, f"step-{number}")(
                step=number, teacher=before["checkpoint"], memory=before["memory"], **common
            )
            steps.append(step)
        for number, step in enumerate(steps):
            place(step, LAUNCHING, secret, on_cluster=on_cluster).set_display_name(
                step_title(scenario, number)
            )
        reported = report(
            checkpoints=[step.outputs["checkpoint"] for step in steps],
            evaluations=[step.outputs["evaluation"] for step in steps],
            memories=[step.outputs["memory"] for step in steps],
            model_name=given["model_name"],
            model_registry_url=given["model_registry_url"],
            kubeflow_run=dsl.PIPELINE_JOB_ID_PLACEHOLDER if on_cluster else "",
            **common,
        )
        place(reported, REPORTING, secret, on_cluster=on_cluster).set_display_name("Report")

    shown = form.defaults(form.INCREMENTAL, alone.model_dump(mode="json", exclude_none=True))
    parameters = form.set_signature(incremental, form.INCREMENTAL, shown)
    return dsl.pipeline(
        name=f"dkd-{scenario.name.replace('.', '-')}",
        display_name=title(scenario),
        description=scenario.description or f"Class-incremental segmentation: {scenario.name}",
    )(incremental)


def title(scenario: Scenario) -> str:
    """How the UI lists the pipeline, e.g. ``VOC 15-1, DKD-M``."""
    name = scenario.name
    if name in catalogue.published():
        family, first, later, *setting = name.split("-")
        family = {"voc": "VOC", "ade": "ADE20K"}[family]
        name = " ".join([family, f"{first}-{later}", *setting])
    return f"{name}, {scenario.label}" if scenario.label else name


def step_title(scenario: Scenario, number: int, most: int = 2) -> str:
    """Name of a step's node, e.g. ``Step 3: + 18 sofa``; a node shows about 20 characters."""
    if methods.steps(scenario) == 1:
        return "All classes at once"
    known = catalogue.label_names(scenario)
    items = scenario.task[number]
    names = [f"{item} {known[item]}" if item in known else str(item) for item in items]
    what = ", ".join(names) if len(names) <= most else f"{len(names)} classes"
    return f"Step {number}: {'+ ' if number else ''}{what}"
