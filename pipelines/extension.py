"""The everyday pipeline: add classes to a model that exists.

Teacher, new class names, new data and, if there is one, an exemplar memory go in; the next
checkpoint and memory come out, and a report of what was gained and forgotten.
"""

from typing import Any

from kfp import dsl

from dkd.components.evaluate.component import evaluate
from dkd.components.prepare_extension.component import prepare_extension
from dkd.components.report.component import report
from dkd.pipelines.incremental import incremental_step


def build() -> Any:
    """The pipeline, for KFP's compiler and its local runner."""

    @dsl.pipeline(  # type: ignore[untyped-decorator]
        name="dkd-add-classes",
        description="Adds classes to a segmentation model without forgetting the old ones.",
    )
    def add_classes(
        teacher: str,
        classes: list,  # type: ignore[type-arg]
        data: dict,  # type: ignore[type-arg]
        artifact_root: str,
        memory: str = "",
        run_name: str = "{{workflow.name}}",
        overrides: dict = {},  # type: ignore[type-arg]  # noqa: B006 - KFP wants the literal
    ) -> None:
        prepared = prepare_extension(
            teacher=teacher,
            classes=classes,
            data=data,
            artifact_root=artifact_root,
            overrides=overrides,
        ).set_display_name("Prepare data")
        common = {
            "scenario": prepared.outputs["scenario"],
            "task": prepared.outputs["task"],
            "dataset": prepared.outputs["dataset"],
            "artifact_root": artifact_root,
            "run_name": run_name,
        }
        before = evaluate(step=prepared.outputs["teacher_step"], checkpoint=teacher, **common)
        before.set_display_name("Evaluate the teacher")
        step = incremental_step(
            step=prepared.outputs["step"], teacher=teacher, memory=memory, **common
        )
        step.set_display_name("Add the classes")
        report(
            evaluations=[before.outputs["Output"], step.outputs["evaluation"]],
            memories=["", step.outputs["memory"]],
            **common,
        ).set_display_name("Report")

    return add_classes
