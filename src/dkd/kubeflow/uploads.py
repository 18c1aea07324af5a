"""Compiled pipelines on an endpoint: versions, and what a run fills into their form."""

import hashlib
import json
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from dkd import __version__, methods
from dkd.errors import UserError, one_line
from dkd.kubeflow.client import Endpoint, Exists, Missing
from dkd.kubeflow.internals import Json
from dkd.scenario import form
from dkd.scenario.parsing import parse_value
from dkd.scenario.schema import parse

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True)
class Version:
    """An uploaded pipeline version.

    Attributes:
        pipeline: id of the pipeline.
        id: of the version.
        name: of the version.
        fresh: it was uploaded now; else the same content was there.
    """

    pipeline: str
    id: str
    name: str
    fresh: bool

    @property
    def reference(self) -> Json:
        return {"pipeline_id": self.pipeline, "pipeline_version_id": self.id}


def is_compiled(path: str) -> bool:
    """Whether a file is a compiled pipeline rather than a scenario."""
    try:
        return b"pipelineInfo" in Path(path).read_bytes()
    except OSError:
        return False


def read_compiled(path: str) -> bytes:
    """A compiled pipeline's file.

    Raises:
        UserError: it is not one of ours.
    """
    content = Path(path).read_bytes()
    try:
        spec, known = _spec(content), dict(_parameters(content))
        shaped = isinstance(spec["pipelineInfo"]["name"], str) and spec["root"]["dag"]["tasks"]
    except (yaml.YAMLError, LookupError, TypeError, ValueError, StopIteration, RecursionError):
        raise UserError(f"{path}: not a compiled pipeline; make it with `dkd compile`") from None
    if not shaped or "artifact_root" not in known:
        raise UserError(f"{path}: a pipeline, but not one that `dkd compile` made")
    return content


def _spec(content: bytes) -> Json:
    spec: Json = next(iter(yaml.load_all(content, Loader=_LOADER)))
    return spec


def _parameters(content: bytes) -> Json:
    found: Json = _spec(content)["root"]["inputDefinitions"]["parameters"]
    return found


def upload(endpoint: Endpoint, content: bytes, version: str = "") -> Version:
    """Uploads a compiled pipeline, unless this very content is there.

    Args:
        endpoint: where to.
        content: YAML.
        version: name of the version; by default it is made from the content.

    Raises:
        UserError: a version of this name has other content, or the endpoint says no.
    """
    info = _spec(content)["pipelineInfo"]
    digest = hashlib.sha256(content).hexdigest()
    wanted = version or f"{__version__}-{digest[:10]}"
    identity, made_now = _pipeline(endpoint, info)
    if known := _known(endpoint, info["name"], identity, wanted, digest):
        return known
    call = endpoint.api.pipeline_uploads.upload_pipeline_version
    try:
        with tempfile.TemporaryDirectory(prefix="dkd-upload-") as folder:
            file = Path(folder) / "pipeline.yaml"
            file.write_bytes(content)
            made = endpoint.ask(
                call,
                str(file),
                name=wanted,
                display_name=wanted,
                pipelineid=identity,
                description=f"dkd {__version__}, {_mark(digest)}",
            )
    except Exists:  # uploaded by another a moment ago
        if known := _known(endpoint, info["name"], identity, wanted, digest):
            return known
        raise
    except UserError as error:
        if made_now:  # no pipeline without a version is left behind
            with suppress(UserError):
                endpoint.ask(endpoint.api.pipelines.pipeline_service_delete_pipeline, identity)
        raise UserError(f"{error}: pipeline {info['name']} was not accepted") from None
    return Version(identity, made["pipeline_version_id"], wanted, fresh=True)


def _mark(digest: str) -> str:
    return f"sha256:{digest}"


def _pipeline(endpoint: Endpoint, info: Json) -> tuple[str, bool]:
    """Id of the pipeline of a name, and whether it was made now."""
    call = endpoint.api.pipelines.pipeline_service_get_pipeline_by_name
    place = {"namespace": endpoint.namespace}

    def found() -> str:
        return str(endpoint.ask(call, info["name"], **place)["pipeline_id"])

    try:
        return found(), False
    except Missing:
        pass
    body = {
        "name": info["name"],
        "display_name": info.get("displayName", info["name"]),
        "description": info.get("description", ""),
        **place,
    }
    try:
        made = endpoint.ask(endpoint.api.pipelines.pipeline_service_create_pipeline, body)
    except Exists:  # made by another a moment ago
        return found(), False
    return str(made["pipeline_id"]), True


def _known(
    endpoint: Endpoint, name: str, identity: str, wanted: str, digest: str
) -> Version | None:
    """The version of a name, if there is one.

    Raises:
        UserError: it has other content.
    """
    call = endpoint.api.pipelines.pipeline_service_list_pipeline_versions
    for known in endpoint.listed(call, "pipeline_versions", identity):
        if wanted in (known.get("name"), known.get("display_name")):
            if _mark(digest) not in known.get("description", ""):
                raise UserError(
                    f"{endpoint.url}: pipeline {name} has a version {wanted} with other content; "
                    "give this one another name (--version-name)"
                )
            return Version(identity, known["pipeline_version_id"], wanted, fresh=False)
    return None


def form_values(content: bytes, given: Mapping[str, str]) -> dict[str, Any]:
    """A form's values for a run, checked as far as the form says: names, kinds and choices.

    Defaults are among them, as when the UI sends them: it shows and compares what a run was given.

    Args:
        content: the compiled pipeline.
        given: what was written, by name: YAML, but for fields of text, which take it as it is.

    Raises:
        UserError: the first that does not fit.
    """
    known = _parameters(content)
    values = {
        name: parameter["defaultValue"]
        for name, parameter in known.items()
        if "defaultValue" in parameter
    }
    for name, text in given.items():
        if name not in known:
            told = f"-p {name}: the form has no such field; it has {', '.join(known)}"
            raise UserError(one_line(told))
        values[name] = _of_kind(name, known[name], text)
    return values


def _of_kind(name: str, parameter: Json, text: str) -> Any:
    kinds: dict[str, tuple[type | tuple[type, ...], str]] = {
        "NUMBER_INTEGER": (int, "a whole number"),
        "NUMBER_DOUBLE": ((int, float), "a number"),
        "LIST": (list, "a list, e.g. [a, b]"),
        "STRUCT": (dict, "a mapping, e.g. {a: b}"),
    }
    value: Any = text
    if parameter["parameterType"] != "STRING":
        kind, told = kinds[parameter["parameterType"]]
        value = parse_value(text, f"-p {name}")
        if not isinstance(value, kind) or isinstance(value, bool):
            raise UserError(one_line(f"-p {name}={text}: give {told}"))
    choices = parameter.get("literals")
    if choices and value not in choices:
        raise UserError(one_line(f"-p {name}={text}: choose one of {', '.join(choices)}"))
    return value


def check(content: bytes, values: Mapping[str, Any]) -> None:
    """Checks a form's values as the run's first task would, as far as that needs no cluster.

    Args:
        content: the compiled pipeline.
        values: from :func:`form_values`.

    Raises:
        UserError: a bad value, named as the form names it.
    """
    secret = str(values.get("s3_secret", "none"))
    if not secret or "." in secret:  # Kubeflow Pipelines (2.17) calls a volume as the secret
        raise UserError(
            f"-p s3_secret={secret}: name a secret without a dot, or 'none' where pods have "
            "credentials otherwise"
        )
    spec = _spec(content)
    document = _embedded_scenario(spec)
    if document is None:  # adds classes to a model whose scenario is not known here
        for name in ("add_classes", "model_name", "data_set_uri"):
            if not values.get(name):
                raise UserError(f"-p {name}=...: add-classes needs it")
        return
    scenario = parse(json.loads(document), source="scenario")
    filled = form.fill_in(scenario, form.INCREMENTAL, values)
    methods.check(filled, source="other_settings")


def _embedded_scenario(spec: Json) -> str | None:
    """The scenario that a pipeline was compiled from, as JSON: its first task is given it."""
    for task in spec["root"]["dag"]["tasks"].values():
        given = task["inputs"]["parameters"].get("scenario", {})
        if "runtimeValue" in given:
            document: str = given["runtimeValue"]["constant"]
            return document
    return None
