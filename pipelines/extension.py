"""The everyday pipeline: add classes to a model that exists.

A model's name, new class names and new data go in; its next version comes out, and a report of what
was gained and forgotten.
"""

import json
from collections.abc import Mapping
from typing import Any

from kfp import dsl

from dkd.components.evaluate.component import evaluate
from dkd.components.learn_step.component import learn_step
from dkd.components.prepare_extension.component import prepare_extension
from dkd.components.report.component import report
from dkd.pipelines.policy import LAUNCHING, PREPARING, REPORTING, place
from dkd.scenario import form
from dkd.scenario.launch import Launch

NAME = "dkd-add-classes"


def build(
    launch: Launch = Launch(),  # noqa: B008 - frozen
    *,
    teacher: str = "",
    memory: str = "",
    settings: Mapping[str, Any] | None = None,
    on_cluster: bool = False,
) -> Any:
    """The pipeline, for KFP's compiler and its local runner.

    Args:
        launch: what the form proposes.
        teacher: checkpoint to extend where that is known already; else it is that of the model's
            version in production when the pipeline runs.
        memory: exemplar memory that goes with this teacher; empty without.
        settings: values by dotted field of the scenario that go with it.
        on_cluster: else under the local runner: nothing is tried again, no workflow has a name.
    """

    def add_classes(*values: Any) -> None:
        given = dict(zip(parameters, values, strict=True))
        secret = given["s3_secret"]
        prepared = prepare_extension(
            workflow=dsl.PIPELINE_JOB_RESOURCE_NAME_PLACEHOLDER if on_cluster else "",
            teacher=teacher,
            memory=memory,
            settings=json.dumps(dict(settings or {})),
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
        extended = prepared.outputs["teacher"]
        before = evaluate(step=prepared.outputs["teacher_step"], checkpoint=extended, **common)
        place(before, LAUNCHING, secret, on_cluster=on_cluster).set_display_name(
            "Evaluate the teacher"
        )
        step = learn_step(
            step=prepared.outputs["step"],
            teacher=extended,
            memory=prepared.outputs["memory"],
            **common,
        )
        place(step, LAUNCHING, secret, on_cluster=on_cluster).set_display_name("Add the classes")
        reported = report(
            checkpoints=[extended, step.outputs["checkpoint"]],
            evaluations=[before.outputs["Output"], step.outputs["evaluation"]],
            memories=["", step.outputs["memory"]],
            model_name=given["model_name"],
            model_registry_url=given["model_registry_url"],
            kubeflow_run=dsl.PIPELINE_JOB_ID_PLACEHOLDER if on_cluster else "",
            **common,
        )
        place(reported, REPORTING, secret, on_cluster=on_cluster).set_display_name("Report")

    known = {"launch": launch.model_dump(mode="json", exclude_none=True)}
    shown = form.defaults(form.EXTENSION, known)
    parameters = form.set_signature(add_classes, form.EXTENSION, shown)
    return dsl.pipeline(
        name=NAME,
        display_name="Add classes to a model",
        description="Adds classes to a segmentation model without forgetting the old ones.",
    )(add_classes)
