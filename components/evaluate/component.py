"""Scores a model that is there already."""

from kfp import dsl

from dkd.components import component


@component
def evaluate(
    scenario: str,
    task: list,  # type: ignore[type-arg]
    step: int,
    dataset: str,
    artifact_root: str,
    run_name: str,
    checkpoint: str,
    metrics: dsl.Output[dsl.Metrics],
    confusion_matrix: dsl.Output[dsl.ClassificationMetrics],
    step_page: dsl.Output[dsl.HTML],
) -> str:
    """Scores the model on the test images of all classes that it knows. It is not judged: the gate
    is about what the run trains.

    Args:
        scenario: URI of the resolved scenario.
        task: class names by step.
        step: the model's.
        dataset: URI of the data set artifact.
        artifact_root: where results lie.
        run_name: name of the run.
        checkpoint: URI of the model.
        metrics: the same keys at every step, so that runs compare.
        confusion_matrix: drawn where it is readable.
        step_page: this step and those before it.

    Returns:
        URI of the evaluation; empty if the data set shows no class that the model knows.
    """
    from dkd.components import evaluation
    from dkd.log import told
    from dkd.steps import stages

    with told(run_name, step):
        spec = stages.step_spec(scenario, task, step, dataset, artifact_root, checkpoint=checkpoint)
        made = stages.ensure(spec, run_name, ["evaluate"]).get("evaluate")
        shown = (metrics, confusion_matrix, step_page)
        evaluation.show(spec, made, run_name, *shown, judged=False)
    return made.uri if made else ""
