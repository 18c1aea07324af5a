"""Trains one incremental step, as a torchrun job."""

from typing import NamedTuple

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
) -> NamedTuple("Trained", [("checkpoint", str), ("memory", str)]):  # type: ignore[valid-type]
    """Trains the step and chooses the exemplars that stand for the classes known so far.

    What is found under the artifact root is not made again. The job evaluates the model too
    while its processes are warm; the component for that finds its result.

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
        memory: URI of the previous exemplar memory; empty without.

    Returns:
        URIs of the checkpoint and of the memory for the next step; the latter empty if the
        scenario keeps none.
    """
    from collections import namedtuple
    from pathlib import Path

    from dkd.errors import told
    from dkd.steps import stages

    with told():
        spec = stages.step_spec(scenario, task, step, dataset, artifact_root, teacher, memory)
        trained = stages.ensure(spec, "train", run_name).manifest
        lineage = stages.lineage(trained)
        Path(model.path).write_text(
            "".join(f"{key}: {lineage[key]}\n" for key in lineage), encoding="utf-8"
        )
        chosen = ""
        if spec.scenario.memory_size:
            spec = stages.step_spec(
                scenario, task, step, dataset, artifact_root, memory=memory, checkpoint=trained.uri
            )
            chosen = stages.ensure(spec, "memory", run_name).manifest.uri
    model.metadata.update(lineage)
    Trained = namedtuple("Trained", ["checkpoint", "memory"])
    return Trained(trained.uri, chosen)
