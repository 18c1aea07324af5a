"""A step as a component learns it: what the first step's and the later ones' have in common."""

from pathlib import Path
from typing import NamedTuple

from kfp import dsl

from dkd.components import evaluation
from dkd.steps import stages
from dkd.steps.step import STAGES, StepSpec


class Learned(NamedTuple):
    """URIs of what a step made.

    Attributes:
        checkpoint: the model.
        evaluation: its scores; empty if the data set shows no class that the model knows.
        memory: for the next step; empty if the scenario keeps none.
    """

    checkpoint: str
    evaluation: str
    memory: str


def learn(
    spec: StepSpec,
    run: str,
    model: dsl.Model,
    metrics: dsl.Metrics,
    confusion_matrix: dsl.ClassificationMetrics,
    page: dsl.HTML,
    card: dsl.HTML,
) -> Learned:
    """Has a step's results made, or finds them, and fills in what the UI shows of them.

    Args:
        spec: the step.
        run: name of the run.
        model: KFP's record of the checkpoint.
        metrics: see :func:`dkd.components.evaluation.show`, as for what follows.
        confusion_matrix: of the scores.
        page: of this step and those before it.
        card: the model's.

    Raises:
        UserError: bad inputs, the job failed, or the model failed its gate.
    """
    made = stages.ensure(spec, run)
    lineage = stages.lineage(made["train"])
    Path(model.path).write_text(
        "".join(f"{key}: {lineage[key]}\n" for key in lineage), encoding="utf-8"
    )
    model.metadata.update(lineage)
    evaluation.show(spec, made.get("evaluate"), run, metrics, confusion_matrix, page, card)
    return Learned(*(made[stage].uri if stage in made else "" for stage in STAGES))
