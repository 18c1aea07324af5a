"""The pipeline: learn classes step by step. One definition, for a cluster and for a laptop.

The DAG is built from a scenario when it is compiled, because a run-time loop carries nothing
from one step to the next. Per step one sub-DAG: train (which chooses exemplars too) and
evaluate. A task costs two pods and half a minute on a cluster, so there is one for what shows
something of its own, and no more.
"""

import copy
from typing import Any, NamedTuple

from kfp import dsl

from dkd import methods
from dkd.components.evaluate.component import evaluate
from dkd.components.prepare_data.component import prepare_data
from dkd.components.report.component import report
from dkd.components.train.component import train
from dkd.pipelines.policy import LAUNCHING, PREPARING, REPORTING, place
from dkd.scenario import catalogue, form
from dkd.scenario.schema import Scenario


class StepOutputs(NamedTuple):
    """What a step hands on: URIs of the checkpoint, its evaluation and the memory."""

    checkpoint: str
    evaluation: str
    memory: str


def named(component: Any, name: str) -> Any:
    """A component under another name, which becomes its tasks' name.

    The UI (2.17) finds an artifact by the names of task and output alone, whichever sub-DAG they
    are in: with one name in every step, all steps would show the last one's metrics and page.
    """
    other = copy.deepcopy(component)
    other.component_spec.name = name
    return other


def step_pipeline(name: str, evaluation: str, *, on_cluster: bool) -> Any:
    """The sub-DAG of one step: train, evaluate.

    Args:
        name: of the step's task, unlike any other's in the pipeline.
        evaluation: how the evaluation is called; the UI puts it over its metrics where it
            compares runs, and says nothing of the step there.
        on_cluster: else under the local runner: nothing is tried again.
    """

    @dsl.pipeline(name=name)  # type: ignore[untyped-decorator]
    def step(
        scenario: str,
        task: list,  # type: ignore[type-arg]
        step: int,
        dataset: str,
        artifact_root: str,
        run_name: str,
        s3_secret: str,
        teacher: str,
        memory: str,
    ) -> StepOutputs:
        inputs = {
            "scenario": scenario,
            "task": task,
            "step": step,
            "dataset": dataset,
            "artifact_root": artifact_root,
            "run_name": run_name,
        }
        trained = named(train, f"{name}-train")(teacher=teacher, memory=memory, **inputs)
        checkpoint = trained.outputs["checkpoint"]
        evaluated = named(evaluate, f"{name}-evaluate")(checkpoint=checkpoint, **inputs)
        for each, title in ((trained, "Train"), (evaluated, evaluation)):
            place(each, LAUNCHING, s3_secret, on_cluster=on_cluster).set_display_name(title)
        return StepOutputs(checkpoint, evaluated.outputs["Output"], trained.outputs["memory"])

    return step


def build(scenario: Scenario, *, on_cluster: bool = False) -> Any:
    """The pipeline of a scenario, for KFP's compiler and its local runner.

    Args:
        scenario: embedded in the pipeline; its values are the form's defaults, and what is
            filled in replaces them.
        on_cluster: else under the local runner: nothing is tried again, no workflow has a name.
    """
    alone = scenario.model_copy(update={"variants": {}})
    steps = [
        step_pipeline(f"step-{n}", f"Evaluate step {n}", on_cluster=on_cluster)
        for n in range(methods.steps(scenario))
    ]

    def incremental(*values: Any) -> None:
        given = dict(zip(parameters, values, strict=True))
        secret = given["s3_secret"]
        prepared = prepare_data(
            scenario=alone.model_dump_json(),
            workflow=dsl.PIPELINE_JOB_RESOURCE_NAME_PLACEHOLDER if on_cluster else "",
            **given,
        )
        place(prepared, PREPARING, secret, on_cluster=on_cluster).set_display_name("Prepare data")
        common = {
            "scenario": prepared.outputs["scenario"],
            "task": prepared.outputs["task"],
            "dataset": prepared.outputs["dataset"],
            "artifact_root": given["artifact_root"],
            "run_name": prepared.outputs["run_name"],
        }
        teacher: Any = ""
        memory: Any = ""
        checkpoints, evaluations, memories = [], [], []
        for number in range(methods.steps(scenario)):
            step = steps[number](
                step=number, teacher=teacher, memory=memory, s3_secret=secret, **common
            )
            step.set_display_name(step_title(scenario, number))
            teacher, memory = step.outputs["checkpoint"], step.outputs["memory"]
            checkpoints.append(teacher)
            evaluations.append(step.outputs["evaluation"])
            memories.append(memory)
        reported = report(
            checkpoints=checkpoints, evaluations=evaluations, memories=memories, **common
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
