"""Writes the report of a run."""

from kfp import dsl

from dkd.components import component


@component
def report(
    scenario: str,
    task: list,  # type: ignore[type-arg]
    dataset: str,
    artifact_root: str,
    run_name: str,
    checkpoints: list,  # type: ignore[type-arg]
    evaluations: list,  # type: ignore[type-arg]
    memories: list,  # type: ignore[type-arg]
    report_page: dsl.Output[dsl.HTML],
) -> str:
    """Gathers every step's results into one page and one document.

    Args:
        scenario: the resolved scenario, as JSON.
        task: class names by step.
        dataset: URI of the data set artifact.
        artifact_root: where results lie.
        run_name: name of the run.
        checkpoints: URI of every step's model, in order.
        evaluations: URI of every step's evaluation, empty where there was nothing to score it on.
        memories: URI of every step's memory, empty where there is none.
        report_page: the report.

    Returns:
        URI of the run's result document.
    """
    from pathlib import Path

    from dkd.errors import told
    from dkd.report import collect
    from dkd.steps import stages

    with told():
        resolved, steps = stages.parsed(scenario, task)
        result = collect.gather(
            resolved, steps, dataset, run_name, checkpoints, evaluations, memories
        )
        uri = collect.publish(result, artifact_root, run_name)
        Path(report_page.path).write_text(collect.page([result]), encoding="utf-8")
    return uri
