"""Checks the run's form, the scenario and its data set, and learns the first step."""

from typing import NamedTuple

from kfp import dsl

from dkd.components import component


@component
def learn_first_step(
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
    model: dsl.Output[dsl.Model],
    metrics: dsl.Output[dsl.Metrics],
    confusion_matrix: dsl.Output[dsl.ClassificationMetrics],
    step_page: dsl.Output[dsl.HTML],
    model_card: dsl.Output[dsl.HTML],
) -> NamedTuple(  # type: ignore[valid-type]
    "LearnedFirst",
    [
        ("scenario", str),
        ("dataset", str),
        ("task", list),
        ("run_name", str),
        ("checkpoint", str),
        ("evaluation", str),
        ("memory", str),
    ],
):
    """Applies the form to the scenario, checks data set, task and initial weights, and publishes
    the data set's index; then trains, scores and judges step 0 and chooses its exemplars.

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
        model: KFP's record of the checkpoint: where it lies and what it was made of. The same
            is its content, because the UI previews that and shows no metadata beside a graph.
        metrics: the same keys at every step, so that runs compare.
        confusion_matrix: drawn where it is readable.
        step_page: this step.
        model_card: what the model is, how good, and where it ends; as it lies beside the checkpoint
            once the run is over.

    Returns:
        URIs of the scenario with the run's values and of the data set, class names by step, the
        run's name; and of the first step what the component learn_step returns of each.
    """
    values = dict(locals())
    from dkd.components import learning, preparation
    from dkd.log import told
    from dkd.steps import stages

    with told(run_name or workflow, 0):
        prepared = preparation.of_form(values)
        spec = stages.step_spec(
            prepared.scenario, prepared.task, 0, prepared.dataset, artifact_root
        )
        learned = learning.learn(
            spec, prepared.run_name, model, metrics, confusion_matrix, step_page, model_card
        )
        return (*prepared, *learned)
