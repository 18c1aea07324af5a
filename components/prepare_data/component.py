"""Checks the run's form, the scenario and its data set before anything is trained."""

from typing import NamedTuple

from dkd.components import component


@component
def prepare_data(
    scenario: str,
    workflow: str,
    artifact_root: str,
    run_name: str,
    data_set_uri: str,
    epochs_first_step: int,
    epochs_later_steps: int,
    exemplar_memory_size: int,
    initial_weights: str,
    learning_rate_first_step: float,
    learning_rate_later_steps: float,
    model_name: str,
    model_registry_url: str,
    other_settings: dict,  # type: ignore[type-arg]
    protocol: str,
    s3_secret: str,
    seed: int,
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
    "Prepared", [("scenario", str), ("dataset", str), ("task", list), ("run_name", str)]
):
    """Applies the form to the scenario, checks data set, task and initial weights, publishes the
    index.

    Args:
        scenario: the compiled scenario, as JSON.
        workflow: name of the workflow that runs this.
        artifact_root: where every result of this and other runs lies.
        run_name: name of the run, taken by one scenario only; the workflow's if empty.
        data_set_uri: a packed data set.
        epochs_first_step: passes over the images of step 0.
        epochs_later_steps: passes over the images of each later step.
        exemplar_memory_size: images kept for later steps; 0 keeps none.
        initial_weights: "imagenet", "none", or a file of weights; the scenario's if empty.
        learning_rate_first_step: the backbone's at the start of step 0.
        learning_rate_later_steps: likewise for every later step.
        model_name: of the model whose next version the result is; empty for none.
        model_registry_url: of a Kubeflow Model Registry; the last task tells it.
        other_settings: values by dotted field of the scenario, e.g. {"training.crop": 128}.
        protocol: how labels are used and results scored.
        s3_secret: secret with the S3 keys; "none" where pods have credentials otherwise.
        seed: of everything random.
        training_backend: what runs the training.
        training_cpu_per_node: CPUs requested.
        training_gpus_per_node: 0 trains on CPU.
        training_image: best by digest.
        training_memory_per_node: requested, and the limit.
        training_node_selector: labels that nodes must have.
        training_nodes: machines per step.
        training_processes_per_node: ranks per machine on CPU; with GPUs there is one for each.
        training_queue: Kueue's local queue.
        training_tolerations: as in a pod.

    Returns:
        URIs of the scenario with the run's values and of the data set, class names by step, the
        run's name.
    """
    values = dict(locals())
    import os
    from collections import namedtuple

    from dkd import methods
    from dkd.log import told
    from dkd.models import catalogue
    from dkd.scenario import form
    from dkd.steps import stages

    with told(run_name or workflow):
        form.require_secret(s3_secret, os.environ)
        filled = form.fill_in(stages.parsed(scenario), form.INCREMENTAL, values)
        resolved = methods.check(filled, source="other_settings")
        run = run_name or workflow
        with stages.claimed(artifact_root, run, resolved):
            prepared = stages.prepare(resolved, artifact_root)
            if model_name:
                catalogue.require_task(artifact_root, model_name, prepared.task.classes)
        uri = stages.write_resolved(artifact_root, run, prepared.scenario)
    Prepared = namedtuple("Prepared", ["scenario", "dataset", "task", "run_name"])
    task = [list(names) for names in prepared.task.steps]
    return Prepared(uri, prepared.dataset, task, run)
