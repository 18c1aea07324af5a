"""A model that is there already, scored on a data set's test images."""

from kfp import dsl

from dkd.components.evaluate.component import evaluate


@dsl.pipeline(name="dkd-example-evaluate")  # type: ignore[untyped-decorator]
def example(scenario: str, task: list, dataset: str, checkpoint: str) -> None:  # type: ignore[type-arg]
    """Scores the model of step 0."""
    evaluate(
        scenario=scenario,
        task=task,
        step=0,
        dataset=dataset,
        artifact_root="s3://mlpipeline/dkd",
        run_name="example",
        checkpoint=checkpoint,
    )
