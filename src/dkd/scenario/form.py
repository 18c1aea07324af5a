"""The form: a run's parameters, as the UI of Kubeflow Pipelines asks for them.

The UI (seen on 2.17) shows ``name - type`` and a default, no description, sorted by name. So the
names explain themselves and sort into an order that makes sense: where results and data are, what
is learned and how, where it is trained. What is left as it is, or empty, is the scenario's.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from inspect import Parameter, Signature
from pathlib import Path
from typing import Any

from dkd.errors import UserError
from dkd.scenario import strict_yaml
from dkd.scenario.data import Data
from dkd.scenario.protocols import PROTOCOLS
from dkd.scenario.schema import Scenario
from dkd.scenario.strict_model import MAX_SEED, parse_part

ARTIFACT_ROOT = "s3://mlpipeline/dkd"
"""Artifact root that the form proposes: a folder of Kubeflow Pipelines' own bucket."""

S3_SECRET = "mlpipeline-minio-artifact"  # noqa: S105 - a name
"""Secret with the S3 keys that the form proposes: Kubeflow Pipelines' own."""

PLACEHOLDER = "s3://your-bucket/"
"""Start of a data set's URI that a person must replace."""


@dataclass(frozen=True)
class Field:
    """One parameter of the form.

    Attributes:
        name: as the form shows it.
        path: the scenario's field that it sets; empty for what concerns the run as a whole.
        kind: its type.
        choices: the values of a drop-down; empty for a free field.
        number: what its text is, where ``kind`` is ``str``: a number, or empty for the scenario's.
        meaning: for the handbook; empty where the scenario's field says it.
    """

    name: str
    path: str
    kind: type
    choices: tuple[str, ...] = ()
    number: bool = False
    meaning: str = ""


_DATA_SET = "packed data set, as ``dkd data pack`` wrote it"

LAUNCH_FIELDS = (
    Field("s3_secret", "launch.secret", str),
    Field("training_backend", "launch.backend", str, ("trainjob", "pytorchjob", "local")),
    Field("training_cpu_per_node", "launch.cpu", str),
    Field("training_gpus_per_node", "launch.gpus_per_node", int),
    Field("training_image", "launch.image", str),
    Field("training_memory_per_node", "launch.memory", str),
    Field("training_node_selector", "launch.node_selector", dict),
    Field("training_nodes", "launch.nodes", int),
    Field("training_processes_per_node", "launch.processes_per_node", int),
    Field("training_queue", "launch.queue", str),
    Field("training_tolerations", "launch.tolerations", list),
)
"""Where and on how much a step is trained: changes no result."""

RUN = (
    Field("artifact_root", "", str, meaning="where all results go, such as ``s3://bucket/prefix``"),
    Field(
        "model_registry_url",
        "",
        str,
        meaning="Kubeflow Model Registry that is informed of a model's new version; empty for none",
    ),
    Field(
        "run_name",
        "",
        str,
        meaning="folder of the run under the artifact root; if empty, the workflow's name. A name "
        "belongs to one scenario, and in add-classes to one version of the model",
    ),
    Field(
        "other_settings",
        "",
        dict,
        meaning="values of any other fields of the scenario, such as "
        '``{"training.crop": 128, "launch.shared_memory": "8Gi"}``',
    ),
)
"""What concerns the run as a whole."""

INCREMENTAL = (
    *RUN,
    Field("data_set_uri", "data.root", str, meaning=_DATA_SET),
    Field("epochs_first_step", "training.epochs.first", int),
    Field("epochs_later_steps", "training.epochs.later", int),
    Field("exemplar_memory_size", "memory_size", int),
    Field("initial_weights", "network.weights", str),
    Field("learning_rate_first_step", "training.lr.first", float),
    Field("learning_rate_later_steps", "training.lr.later", float),
    Field(
        "model_name", "", str, meaning="model whose next version the result becomes; empty for none"
    ),
    Field("protocol", "protocol", str, tuple(PROTOCOLS)),
    Field("seed", "seed", int),
    *LAUNCH_FIELDS,
)
"""The form of a scenario's pipeline: the fields' defaults are the scenario's values."""

# Text, because the teacher's scenario is not known when the pipeline is compiled: empty is its.
EXTENSION = (
    *RUN,
    Field(
        "add_classes",
        "",
        list,
        meaning='names of the new classes as the data set has them, such as ``["sheep"]``',
    ),
    Field("data_set_uri", "", str, meaning=_DATA_SET),
    Field("epochs", "training.epochs.later", str, number=True),
    Field("exemplar_memory_size", "memory_size", str, number=True),
    Field("learning_rate", "training.lr.later", str, number=True),
    Field(
        "model_name",
        "",
        str,
        meaning="model to extend: its version in production is the teacher, with that version's "
        "memory, and the result is its next version",
    ),
    Field("seed", "seed", str, number=True),
    *LAUNCH_FIELDS,
)
"""The form of the pipeline that adds classes to a model."""


def defaults(fields: Iterable[Field], given: Mapping[str, Any]) -> dict[str, Any]:
    """The form's defaults.

    Args:
        fields: the form.
        given: a scenario as JSON, or the part of it that is known; other fields are empty.
    """
    empty: dict[str, Any] = {"artifact_root": ARTIFACT_ROOT}
    return {
        field.name: _at(given, field.path) if field.path else empty.get(field.name, field.kind())
        for field in fields
    }


def _at(document: Mapping[str, Any], path: str) -> Any:
    value: Any = document
    for part in path.split("."):
        value = value.get(part, "")
        if value == "":
            break
    return value or S3_SECRET if path == "launch.secret" else value


def set_signature(
    function: Callable[..., None], fields: Iterable[Field], values: Mapping[str, Any]
) -> tuple[str, ...]:
    """Makes the form a pipeline function's parameters; returns their names in order.

    KFP reads a pipeline's parameters from its function's signature, and calls it by position.
    """
    keyword = Parameter.POSITIONAL_OR_KEYWORD
    function.__signature__ = Signature(  # type: ignore[attr-defined]
        [
            Parameter(field.name, keyword, default=values[field.name], annotation=field.kind)
            for field in sorted(fields, key=lambda field: field.name)
        ]
    )
    return tuple(function.__signature__.parameters)  # type: ignore[attr-defined]


def require_secret(name: str, environment: Mapping[str, str]) -> None:
    """Checks that a component's pod got the S3 keys that the form names.

    Args:
        name: of the secret; ``none`` where pods have credentials otherwise.
        environment: the pod's variables; outside of pods nothing is checked.

    Raises:
        UserError: it did not: there is no such secret, or it has other keys.
    """
    in_pod = "KUBERNETES_SERVICE_HOST" in environment
    mounted = Path(environment.get("DKD_S3_CREDENTIALS_DIR") or "/nowhere")
    files = all((mounted / key).is_file() for key in ("accesskey", "secretkey"))
    given = files or "AWS_ACCESS_KEY_ID" in environment
    if in_pod and name not in ("", "none") and not given:
        raise UserError(
            f"s3_secret: there is no secret {name} with the keys accesskey and secretkey in this "
            f"namespace; kubectl get secret {name} shows it, and 'none' is for pods that have "
            "credentials otherwise"
        )


def require_model(name: str) -> None:
    """Checks that the form of an extension names a model.

    Raises:
        UserError: it does not.
    """
    if not name:
        raise UserError(
            "model_name: name the model to extend, as `dkd models list` shows it; a checkpoint "
            "that has no name gets one by `dkd models add NAME --checkpoint URI`"
        )


def fill_in(
    scenario: Scenario,
    fields: Sequence[Field],
    values: Mapping[str, Any],
) -> Scenario:
    """The scenario with a form's values.

    Args:
        scenario: as compiled, or the teacher's.
        fields: the form.
        values: by the form's names; more names than the form's are passed over. Empty ones leave
            the scenario's; ``other_settings`` win.

    Raises:
        UserError: a bad value, named as the form names it.
    """
    given = {
        field.name: _typed(field, values[field.name])
        for field in fields
        if field.path and values.get(field.name) not in ("", None)
    }
    assignments: dict[str, Any] = {}
    for field in fields:
        if field.name in given:
            assignments |= _checked(scenario, field, given[field.name], given)
    assignments |= _other_settings(scenario, values.get("other_settings") or {})
    filled = scenario.override(assignments)
    if filled.data.root.startswith(PLACEHOLDER):
        raise UserError(
            f"data_set_uri: {filled.data.root} is a placeholder; give the URI of your own data "
            "set (dkd data pack)"
        )
    if filled.launch.backend != "local" and not filled.launch.image:
        raise UserError(
            "training_image: name the training image, best by digest "
            "(REGISTRY/dkd-training@sha256:...)"
        )
    return filled


def _typed(field: Field, value: Any) -> Any:
    """A value in the type that it had before it was sent."""
    if field.number and isinstance(value, str):
        return strict_yaml.load(value, field.name)
    value = _whole(value)
    if field.kind in (list, dict) and not isinstance(value, field.kind):
        told = "a list" if field.kind is list else "a mapping"
        raise UserError(f"{field.name}: give {told}, not {value!r}")
    return value


def _whole(value: Any) -> Any:
    """A value as JSON has it, with whole numbers as such: a form's are sent as floats."""
    if isinstance(value, dict):
        return {key: _whole(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_whole(each) for each in value]
    exact = isinstance(value, float) and value.is_integer() and abs(value) <= MAX_SEED
    return int(value) if exact else value


def _checked(
    scenario: Scenario, field: Field, value: Any, given: Mapping[str, Any]
) -> dict[str, Any]:
    """What a field sets, tried alone so that its error bears its name."""
    if field.choices and value not in field.choices:
        raise UserError(f"{field.name}: {value!r} is none of {', '.join(field.choices)}")
    assignments = {field.path: value}
    if field.path == "data.root" and value != scenario.data.root:
        assignments["data.format"] = "packed"
    elif field.path == "launch.gpus_per_node":
        assignments["launch.processes_per_node"] = value or given.get("training_processes_per_node")
    elif field.path == "launch.secret" and value == S3_SECRET and not scenario.launch.secret:
        return {}  # what the form proposed: workers keep the runtime's own
    elif field.path == "launch.processes_per_node" and given.get("training_gpus_per_node"):
        return {}  # one rank per GPU
    elif field.path == "launch.tolerations":
        assignments = {field.path: [_toleration(each) for each in value]}
    complete = {key: each for key, each in assignments.items() if each is not None}
    try:
        # Alone it must not be judged by how many ranks there are to a GPU.
        scenario.override({"launch.gpus_per_node": 0, **complete})
    except UserError as error:
        raise UserError(f"{field.name}: {error} (given: {value!r})") from None
    return complete


def _other_settings(scenario: Scenario, given: Mapping[str, Any]) -> Mapping[str, Any]:
    given = _settings(given)
    try:
        scenario.override({"launch.gpus_per_node": 0, **given})
    except UserError as error:
        raise UserError(f"other_settings: {error}") from None
    return given


def _settings(given: Mapping[str, Any]) -> dict[str, Any]:
    whole = _whole(given)
    if not isinstance(whole, dict) or not all(isinstance(path, str) for path in whole):
        raise UserError("other_settings: give a mapping of fields, e.g. {training.crop: 128}")
    return whole


def new_data(uri: str, other_settings: Mapping[str, Any]) -> Data:
    """The data set of an extension: packed, unless ``data.*`` of the other settings differ.

    Raises:
        UserError: no URI, or an unknown field or bad value.
    """
    fields = {
        path.removeprefix("data."): value
        for path, value in _settings(other_settings).items()
        if path.startswith("data.")
    }
    return parse_part(Data, {"format": "packed", "root": uri, **fields}, source="data_set_uri")


def _toleration(given: Any) -> Any:
    """In this project's spelling; Kubernetes' own is accepted."""
    if isinstance(given, dict) and "tolerationSeconds" in given:
        return {
            "seconds" if key == "tolerationSeconds" else key: each for key, each in given.items()
        }
    return given
