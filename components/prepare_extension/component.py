"""Checks the run's form, a model, new classes and their data before they are learned."""

from typing import NamedTuple

from dkd.components import component


@component
def prepare_extension(
    workflow: str,
    teacher: str,
    memory: str,
    settings: str,
    add_classes: list,  # type: ignore[type-arg]
    artifact_root: str,
    data_set_uri: str,
    epochs: str,
    exemplar_memory_size: str,
    learning_rate: str,
    model_name: str,
    model_registry_url: str,
    other_settings: dict,  # type: ignore[type-arg]
    run_name: str,
    s3_secret: str,
    seed: str,
    training_backend: str,
    training_cpu_per_node: str,
    training_gpus_per_node: int,
    training_image: str,
    training_memory_per_node: str,
    training_node_selector: dict,  # type: ignore[type-arg]
    training_nodes: int,
    training_processes_per_node: int,
    training_queue: str,
    training_tolerations: list,  # type: ignore[type-arg]
) -> NamedTuple(  # type: ignore[valid-type]
    "Prepared",
    [
        ("scenario", str),
        ("teacher", str),
        ("memory", str),
        ("dataset", str),
        ("task", list),
        ("step", int),
        ("teacher_step", int),
        ("run_name", str),
    ],
):
    """Works out the step that adds the classes, and publishes the new data's index.

    Args:
        workflow: name of the workflow that runs this.
        teacher: checkpoint that knows the old classes; empty for that of the model's version in
            production, whose memory is found, and whose gate and licence are taken over.
        memory: exemplar memory that goes with a given teacher; empty without.
        settings: JSON of values by dotted field that go with a given teacher; null is among them,
            which other_settings cannot hold under KFP's local runner.
        add_classes: names of the new classes.
        artifact_root: where every result lies.
        data_set_uri: the new data, a packed data set unless other_settings say otherwise.
        epochs: passes over the new images. This and the next three: empty for the teacher's.
        exemplar_memory_size: images kept for the step after; 0 keeps none.
        learning_rate: the backbone's at the start.
        model_name: the model to extend, whose next version the result is. It may be empty where a
            teacher is given; the result is no version then.
        model_registry_url: of a Kubeflow Model Registry; the last task tells it.
        other_settings: values by dotted field of the scenario, e.g. {"training.crop": 128}.
        run_name: the workflow's name if empty.
        s3_secret: secret with the S3 keys; "none" where pods have credentials otherwise.
        seed: of everything random.
        training_backend: what runs the training.
        training_cpu_per_node: CPUs requested.
        training_gpus_per_node: 0 trains on CPU.
        training_image: best by digest.
        training_memory_per_node: requested, and the limit.
        training_node_selector: labels that nodes must have.
        training_nodes: machines.
        training_processes_per_node: ranks per machine on CPU; with GPUs there is one for each.
        training_queue: Kueue's local queue.
        training_tolerations: as in a pod.

    Returns:
        URI of how the new step is trained, the teacher and its memory, the data's URI, class names
        by step, the step's number and its teacher's, the run's name.
    """
    values = dict(locals())
    import json
    import os
    from collections import namedtuple

    from dkd import methods
    from dkd.log import told
    from dkd.models import catalogue
    from dkd.scenario import form
    from dkd.scenario.schema import Scenario
    from dkd.steps import stages

    def settle(teachers: Scenario) -> Scenario:
        filled = form.fill_in(teachers, form.EXTENSION, {**values, "other_settings": given})
        return methods.check(filled, source="other_settings")

    with told(run_name or workflow):
        form.require_secret(s3_secret, os.environ)
        if teacher:
            given = {**json.loads(settings), **other_settings}
        else:
            form.require_model(model_name)
            start = catalogue.start_of_extension(artifact_root, model_name, print)
            teacher, memory = start.teacher, start.memory
            given = {**start.settings, **other_settings}
        made = stages.prepare_extension(
            teacher,
            add_classes,
            form.new_data(data_set_uri, given),
            settle,
            artifact_root,
            memory=memory,
        )
        run = run_name or workflow
        inputs = {"teacher": teacher, "memory": memory}
        stages.claim_run(artifact_root, run, made.scenario, inputs)
        scenario = stages.write_resolved(artifact_root, run, made.scenario)
    Prepared = namedtuple(
        "Prepared",
        [
            "scenario",
            "teacher",
            "memory",
            "dataset",
            "task",
            "step",
            "teacher_step",
            "run_name",
        ],
    )
    return Prepared(
        scenario,
        teacher,
        memory,
        made.dataset,
        [list(names) for names in made.task.steps],
        made.step,
        made.step - 1,
        run,
    )
