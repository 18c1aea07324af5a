"""Trains one incremental step, as a torchrun job."""

from kfp import dsl

from dkd.components import component


@component
def train(
    scenario: str,
    task: list,  # type: ignore[type-arg]
    step: int,
    dataset: str,
    artifact_root: str,
    run_name: str,
    model: dsl.Output[dsl.Model],
    teacher: str = "",
    memory: str = "",
) -> str:
    """Trains the step, unless its checkpoint is found under the artifact root.

    The job evaluates the model and chooses exemplars too while its processes are warm; the
    components for these find their results.

    Args:
        scenario: the resolved scenario, as JSON.
        task: class names by step.
        step: which step.
        dataset: URI of the data set artifact.
        artifact_root: where results lie.
        run_name: name of the run.
        model: KFP's record of the checkpoint: where it lies and what it was made of. The same
            is its content, because the UI previews that and shows no metadata beside a graph.
        teacher: URI of the previous step's checkpoint; empty at step 0.
        memory: URI of the exemplar memory; empty without.

    Returns:
        URI of the checkpoint.
    """
    from pathlib import Path

    from dkd.errors import told
    from dkd.steps import stages

    with told():
        spec = stages.step_spec(scenario, task, step, dataset, artifact_root, teacher, memory)
        outcome = stages.ensure(spec, "train", run_name)
        lineage = stages.lineage(outcome.manifest)
        Path(model.path).write_text(
            "".join(f"{key}: {lineage[key]}\n" for key in lineage), encoding="utf-8"
        )
    model.metadata.update(lineage)
    return outcome.manifest.uri
