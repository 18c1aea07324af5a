"""Chooses the exemplar memory for the next step."""

from dkd.components import component


@component
def choose_exemplars(
    scenario: str,
    task: list,  # type: ignore[type-arg]
    step: int,
    dataset: str,
    artifact_root: str,
    run_name: str,
    checkpoint: str,
    memory: str = "",
) -> str:
    """Chooses the images that stand for the classes known so far.

    Args:
        scenario: the resolved scenario, as JSON.
        task: class names by step.
        step: the step whose images are candidates, beside the previous memory.
        dataset: URI of the data set artifact.
        artifact_root: where results lie.
        run_name: name of the run.
        checkpoint: URI of the step's checkpoint.
        memory: the previous memory's URI; empty without.

    Returns:
        URI of the memory; empty if the scenario keeps none.
    """
    from dkd.errors import told
    from dkd.steps import stages

    with told():
        spec = stages.step_spec(
            scenario, task, step, dataset, artifact_root, memory=memory, checkpoint=checkpoint
        )
        if spec.scenario.memory_size == 0:
            return ""
        outcome = stages.ensure(spec, "memory", run_name)
    return outcome.manifest.uri
