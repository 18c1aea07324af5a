"""Two steps, of which the second learns from the first one's model and memory."""

from kfp import dsl

from dkd.components.learn_step.component import learn_step


@dsl.pipeline(name="dkd-example-learn-step")  # type: ignore[untyped-decorator]
def example(scenario: str, task: list, dataset: str) -> None:  # type: ignore[type-arg]
    """Step 0, and step 1 with what it left."""
    common = {
        "scenario": scenario,
        "task": task,
        "dataset": dataset,
        "artifact_root": "s3://mlpipeline/dkd",
        "run_name": "example",
    }
    first = learn_step(step=0, teacher="", memory="", **common)
    learn_step(
        step=1, teacher=first.outputs["checkpoint"], memory=first.outputs["memory"], **common
    )
