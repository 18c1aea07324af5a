"""The pipeline: learn classes step by step. One definition, for a cluster and for a laptop.

The DAG is built from a scenario when it is compiled, because a run-time loop carries nothing
from one step to the next. Per step one sub-DAG: train, evaluate, choose exemplars.
"""

from typing import Any, NamedTuple

from kfp import dsl

from dkd.components.choose_exemplars.component import choose_exemplars
from dkd.components.evaluate.component import evaluate
from dkd.components.prepare_data.component import prepare_data
from dkd.components.report.component import report
from dkd.components.train.component import train
from dkd.scenario import Scenario


class StepOutputs(NamedTuple):
    """What a step hands on: URIs of the checkpoint, its evaluation and the memory."""

    checkpoint: str
    evaluation: str
    memory: str


@dsl.pipeline(name="step")  # type: ignore[untyped-decorator]
def incremental_step(
    scenario: str,
    task: list,  # type: ignore[type-arg]
    step: int,
    dataset: str,
    artifact_root: str,
    run_name: str,
    teacher: str,
    memory: str,
) -> StepOutputs:
    """One step: train, evaluate, choose exemplars."""
    inputs = {
        "scenario": scenario,
        "task": task,
        "step": step,
        "dataset": dataset,
        "artifact_root": artifact_root,
        "run_name": run_name,
    }
    trained = train(teacher=teacher, memory=memory, **inputs)
    checkpoint = trained.outputs["Output"]
    evaluated = evaluate(checkpoint=checkpoint, **inputs)
    chosen = choose_exemplars(checkpoint=checkpoint, memory=memory, **inputs)
    return StepOutputs(checkpoint, evaluated.outputs["Output"], chosen.output)


def build(scenario: Scenario) -> Any:
    """The pipeline of a scenario, for KFP's compiler and its local runner.

    Args:
        scenario: embedded in the pipeline; the run's parameters replace single values.
    """
    compiled = scenario.model_copy(update={"variants": {}}).model_dump_json()

    @dsl.pipeline(  # type: ignore[untyped-decorator]
        name=f"dkd-{scenario.name.replace('.', '-')}",
        description=scenario.description or f"Class-incremental segmentation: {scenario.name}",
    )
    def incremental(
        artifact_root: str,
        run_name: str = "{{workflow.name}}",
        overrides: dict = {},  # type: ignore[type-arg]  # noqa: B006 - KFP wants the literal
    ) -> None:
        prepared = prepare_data(
            scenario=compiled,
            artifact_root=artifact_root,
            run_name=run_name,
            overrides=overrides,
        ).set_display_name("Prepare data")
        common = {
            "scenario": prepared.outputs["scenario"],
            "task": prepared.outputs["task"],
            "dataset": prepared.outputs["dataset"],
            "artifact_root": artifact_root,
            "run_name": run_name,
        }
        teacher: Any = ""
        memory: Any = ""
        evaluations, memories = [], []
        for number in range(scenario.steps):
            step = incremental_step(step=number, teacher=teacher, memory=memory, **common)
            step.set_display_name(step_title(scenario, number))
            teacher, memory = step.outputs["checkpoint"], step.outputs["memory"]
            evaluations.append(step.outputs["evaluation"])
            memories.append(memory)
        report(evaluations=evaluations, memories=memories, **common).set_display_name("Report")

    return incremental


def step_title(scenario: Scenario, number: int, most: int = 3) -> str:
    """Name of a step's node, e.g. ``Step 3: + 18 sheep``."""
    if scenario.steps == 1:
        return "All classes at once"
    names = [str(item) for item in scenario.task[number]]
    shown = ", ".join(names[:most]) + (f" and {len(names) - most} more" if names[most:] else "")
    return f"Step {number}: {'+ ' if number else ''}{shown}"
