"""The report of a run whose two steps are learned already."""

from kfp import dsl

from dkd.components.report.component import report


@dsl.pipeline(name="dkd-example-report")  # type: ignore[untyped-decorator]
def example(scenario: str, task: list, dataset: str, checkpoints: list, evaluations: list) -> None:  # type: ignore[type-arg]
    """Gathers what other tasks made under one artifact root."""
    report(
        scenario=scenario,
        task=task,
        dataset=dataset,
        artifact_root="s3://mlpipeline/dkd",
        run_name="example",
        checkpoints=checkpoints,
        evaluations=evaluations,
        memories=["", ""],
        model_name="",
        model_registry_url="",
        kubeflow_run=dsl.PIPELINE_JOB_ID_PLACEHOLDER,
    )
