"""Scores the model of one step."""

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
    """Scores the step's model on the test images of all classes seen so far, and judges it.

    Args:
        scenario: the resolved scenario, as JSON.
        task: class names by step.
        step: which step.
        dataset: URI of the data set artifact.
        artifact_root: where results lie.
        run_name: name of the run.
        checkpoint: URI of the step's checkpoint.
        metrics: the same keys at every step, so that runs compare.
        confusion_matrix: drawn where it is readable.
        step_page: this step and those before it.

    Returns:
        URI of the evaluation; empty if the data set shows no class that the model knows.
    """
    from pathlib import Path

    from dkd.errors import UserError, told
    from dkd.report import collect, gate
    from dkd.steps import stages

    with told():
        spec = stages.step_spec(scenario, task, step, dataset, artifact_root, checkpoint=checkpoint)
        if not stages.has_test_images(spec):
            print(f"step {spec.step} evaluate: no test image shows a class of this model")
            return ""
        outcome = stages.ensure(spec, "evaluate", run_name)
        shown = collect.shown(outcome.manifest, spec)
        result = collect.so_far(spec, outcome.manifest, run_name)
        Path(step_page.path).write_text(collect.page([result]), encoding="utf-8")
        checks = result.steps[-1].gate
        if verdict := gate.verdict(checks):
            print(f"step {spec.step}: {verdict}")
        if gate.failed(checks) and spec.scenario.gate.on_failure == "stop":
            raise UserError(
                f"step {spec.step}: {verdict}; the run stops here (gate.on_failure=stop), what was "
                f"trained is kept: {checkpoint}"
            )
    for name, value in shown.metrics.items():
        metrics.log_metric(name, value)
    if len(shown.channels) <= collect.READABLE_CHANNELS:
        confusion_matrix.log_confusion_matrix(list(shown.channels), shown.confusion)
    return outcome.manifest.uri
