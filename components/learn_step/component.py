"""Learns a later step: trains, evaluates and chooses exemplars, as one torchrun job."""

from typing import NamedTuple

from kfp import dsl

from dkd.components import component


@component
def learn_step(
    scenario: str,
    task: list,  # type: ignore[type-arg]
    step: int,
    dataset: str,
    artifact_root: str,
    run_name: str,
    teacher: str,
    memory: str,
    model: dsl.Output[dsl.Model],
    metrics: dsl.Output[dsl.Metrics],
    confusion_matrix: dsl.Output[dsl.ClassificationMetrics],
    step_page: dsl.Output[dsl.HTML],
    model_card: dsl.Output[dsl.HTML],
) -> NamedTuple(  # type: ignore[valid-type]
    "Learned", [("checkpoint", str), ("evaluation", str), ("memory", str)]
):
    """Trains the step, scores its model on the test images of all classes seen so far, judges it,
    and chooses the exemplars that stand for them. What is found under the artifact root is not
    made again.

    Args:
        scenario: URI of the resolved scenario.
        task: class names by step.
        step: which step.
        dataset: URI of the data set artifact.
        artifact_root: where results lie.
        run_name: name of the run.
        teacher: URI of the previous step's checkpoint; empty at step 0.
        memory: URI of the previous exemplar memory; empty without.
        model: KFP's record of the checkpoint: where it lies and what it was made of. The same
            is its content, because the UI previews that and shows no metadata beside a graph.
        metrics: the same keys at every step, so that runs compare.
        confusion_matrix: drawn where it is readable.
        step_page: this step and those before it.
        model_card: what the model is, how good, and where it ends; as it lies beside the checkpoint
            once the run is over.

    Returns:
        URIs of the checkpoint, of its evaluation (empty if the data set shows no class that the
        model knows), and of the memory for the next step (empty if the scenario keeps none).
    """
    from dkd.components import learning
    from dkd.log import told
    from dkd.steps import stages

    with told(run_name, step):
        spec = stages.step_spec(scenario, task, step, dataset, artifact_root, teacher, memory)
        return learning.learn(
            spec, run_name, model, metrics, confusion_matrix, step_page, model_card
        )
