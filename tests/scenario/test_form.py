"""What a person fills in is what is trained; what is wrong is told by the name in the form."""

import inspect
from pathlib import Path
from typing import Any

import pytest

from dkd.components.learn_first_step.component import learn_first_step
from dkd.components.prepare_extension.component import prepare_extension
from dkd.errors import UserError
from dkd.scenario import catalogue, form
from dkd.scenario.launch import Toleration
from dkd.scenario.schema import Scenario

URI = "s3://bucket/voc"


def scenario(**values: object) -> Scenario:
    whole = catalogue.scenario("voc-15-1", {"data.root": URI, "data.format": "packed"})
    return whole.override({"variants": {}, **values})


def filled(**values: Any) -> Scenario:
    """The defaults, but for these."""
    given = scenario(**{"launch.backend": "trainjob", "launch.image": "r/dkd-training:1"})
    shown = form.defaults(form.INCREMENTAL, given.model_dump(mode="json", exclude_none=True))
    # Kubeflow Pipelines hands numbers over as floats.
    return form.fill_in(given, form.INCREMENTAL, {**shown, **values})


SHOWN = {"model", "metrics", "confusion_matrix", "step_page", "model_card"}
"""Outputs, which KFP hands over as parameters."""


def test_the_components_take_the_whole_form() -> None:
    for component, fields, more in (
        (learn_first_step, form.INCREMENTAL, {"scenario", "workflow", *SHOWN}),
        (prepare_extension, form.EXTENSION, {"workflow", "teacher", "memory", "settings"}),
    ):
        taken = inspect.signature(component.python_func).parameters
        assert taken.keys() - more == {field.name for field in fields}
        for field in fields:
            assert taken[field.name].annotation is field.kind, field.name


def test_defaults_change_nothing() -> None:
    kept = scenario(**{"launch.backend": "trainjob", "launch.image": "r/dkd-training:1"})
    assert filled() == kept


def test_empty_values_are_the_scenarios() -> None:
    empty = {field.name: "" for field in form.INCREMENTAL if field.name != "other_settings"}
    assert form.fill_in(scenario(), form.INCREMENTAL, empty) == scenario()


def test_values_reach_the_scenario() -> None:
    made = filled(
        data_set_uri="s3://other/packed",
        epochs_first_step=3.0,
        epochs_later_steps=2.0,
        exemplar_memory_size=50.0,
        learning_rate_first_step=0.5,
        learning_rate_later_steps=0.25,
        protocol="corrected",
        s3_secret="keys",
        seed=7.0,
        training_backend="pytorchjob",
        training_cpu_per_node="4",
        training_gpus_per_node=0.0,
        training_image="r/i@sha256:1",
        training_memory_per_node="16Gi",
        training_node_selector={"pool": "gpu"},
        training_nodes=2.0,
        training_processes_per_node=3.0,
        training_queue="team-a",
        training_tolerations=[{"key": "gpu", "operator": "Exists", "tolerationSeconds": 30.0}],
        other_settings={"training.crop": 128.0, "launch.shared_memory": "1Gi"},
    )
    assert (made.data.root, made.data.format) == ("s3://other/packed", "packed")
    training, launch = made.training, made.launch
    assert (training.epochs.first, training.epochs.later) == (3, 2)
    assert (training.lr.first, training.lr.later, training.crop) == (0.5, 0.25, 128)
    assert (made.memory_size, made.protocol, made.seed) == (50, "corrected", 7)
    assert (launch.backend, launch.image, launch.secret) == ("pytorchjob", "r/i@sha256:1", "keys")
    assert (launch.cpu, launch.memory, launch.shared_memory) == ("4", "16Gi", "1Gi")
    assert (launch.nodes, launch.processes_per_node, launch.gpus_per_node) == (2, 3, 0)
    assert (launch.queue, launch.node_selector) == ("team-a", {"pool": "gpu"})
    assert launch.tolerations == (Toleration(key="gpu", operator="Exists", seconds=30),)


def test_gpus_give_the_number_of_processes() -> None:
    launch = filled(training_gpus_per_node=8).launch
    assert (launch.gpus_per_node, launch.processes_per_node) == (8, 8)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"epochs_first_step": 0}, "epochs_first_step: .*greater than or equal to 1"),
        ({"epochs_later_steps": 1.5}, "epochs_later_steps: .*integer.*1.5"),
        ({"exemplar_memory_size": -1}, "exemplar_memory_size: .*greater than or equal to 0"),
        ({"seed": -3}, "seed: "),
        ({"protocol": "best"}, "protocol: 'best' is none of paper, corrected"),
        ({"training_backend": "argo"}, "training_backend: 'argo' is none of trainjob, "),
        ({"training_nodes": 0}, "training_nodes: .*greater than or equal to 1"),
        ({"training_cpu_per_node": "two"}, "training_cpu_per_node: .*given: 'two'"),
        ({"training_node_selector": {"a": 1}}, "training_node_selector: .*string"),
        ({"training_tolerations": [{"keys": "a"}]}, "training_tolerations: .*keys"),
        ({"training_tolerations": ["a"]}, "training_tolerations: "),
        ({"s3_secret": "My Secret"}, "s3_secret: "),
        ({"other_settings": {"crop": 1}}, "other_settings: crop: no such field"),
        ({"other_settings": {"training.crop": 1}}, "other_settings: training.crop: .*16"),
        ({"seed": 2.0**60}, "seed: .*integer"),
        ({"seed": "7"}, "seed: .*integer, not '7'"),
        ({"seed": True}, "seed: .*integer, not true"),
        ({"learning_rate_later_steps": float("nan")}, "learning_rate_later_steps: .*finite"),
        ({"learning_rate_later_steps": -1.0}, "learning_rate_later_steps: .*greater than or equal"),
        ({"training_tolerations": 5.0}, "training_tolerations: give a list, not 5"),
        ({"training_node_selector": [1.0]}, "training_node_selector: give a mapping"),
        ({"other_settings": [1.0]}, "other_settings: give a mapping of fields"),
        ({"other_settings": {"training.precision": True}}, "other_settings: training.precision: "),
        ({"data_set_uri": "s3://your-bucket/datasets/voc"}, "data_set_uri: .* placeholder"),
    ],
)
def test_a_bad_value_is_told_by_its_name(values: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        filled(**values)
    assert "\n" not in str(caught.value)


def test_a_cluster_needs_an_image() -> None:
    given = scenario(**{"launch.backend": "trainjob"})
    with pytest.raises(UserError, match=r"^training_image: name the training image"):
        form.fill_in(given, form.INCREMENTAL, {})


def test_the_text_of_an_extension_is_read_as_numbers() -> None:
    values = {"epochs": "3", "learning_rate": "1e-3", "seed": "7", "exemplar_memory_size": "20"}
    made = form.fill_in(scenario(), form.EXTENSION, values)
    assert (made.training.epochs.later, made.training.lr.later) == (3, 1e-3)
    assert (made.seed, made.memory_size) == (7, 20)


@pytest.mark.parametrize("text", ["three", "3.5", "true", "'3'", "[3", "0", "03"])
def test_text_that_is_no_number_of_epochs(text: str) -> None:
    with pytest.raises(UserError, match=r"^epochs: ") as caught:
        form.fill_in(scenario(), form.EXTENSION, {"epochs": text})
    assert "\n" not in str(caught.value)


def test_the_data_of_an_extension() -> None:
    assert form.new_data(URI, {}).format == "packed"
    described = form.new_data("folder", {"data.format": "voc", "training.crop": 64})
    assert (described.format, described.root) == ("voc", "folder")
    with pytest.raises(UserError, match=r"^data_set_uri: "):
        form.new_data("", {})


def test_a_secret_that_is_not_there(tmp_path: Path) -> None:
    pod = {"KUBERNETES_SERVICE_HOST": "10.96.0.1"}
    with pytest.raises(UserError, match=r"^s3_secret: there is no secret mine with the keys"):
        form.require_secret("mine", pod)
    form.require_secret("none", pod)
    form.require_secret("mine", {**pod, "AWS_ACCESS_KEY_ID": "key"})
    form.require_secret("mine", {})
    mounted = {**pod, "DKD_S3_CREDENTIALS_DIR": str(tmp_path)}
    (tmp_path / "accesskey").write_text("key")
    with pytest.raises(UserError, match=r"^s3_secret: there is no secret mine with the keys"):
        form.require_secret("mine", mounted)
    (tmp_path / "secretkey").write_text("key")
    form.require_secret("mine", mounted)
