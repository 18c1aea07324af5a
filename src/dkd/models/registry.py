"""Versions in a Kubeflow Model Registry, beside the artifact root's own.

The same version is registered there: the checkpoint's URI, figures and gate, where it is from (run,
Kubeflow Pipelines run, data set, the version before), and whether it is in production. The artifact
root remains what counts: a registry that does not answer costs a line, never a run.

The client is Kubeflow's ``model-registry`` (the extra ``registry``). It takes a token where
Kubeflow puts one: from the file that ``KF_PIPELINES_SA_TOKEN_PATH`` names, or the pod's own.
"""

import asyncio
import warnings
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from dkd.models.version import ModelVersion, Promotion

SECONDS = 20
"""For each request: a registry that is away must not hold up a run."""
_FORMAT, _FORMAT_VERSION = "dkd", "1"
Say = Callable[[str], None]
T = TypeVar("T")


def tell_version(version: ModelVersion, endpoint: str, say: Say) -> None:
    """Registers a version; one that is registered already stays as it is.

    Args:
        version: it.
        endpoint: ``http(s)://host:port`` of the registry's REST service.
        say: prints a line: what was registered, or why nothing was.
    """

    def register(client: Any) -> str:
        number = str(version.version)
        if client.get_registered_model(version.model) is not None:
            known = client.get_model_version(version.model, number)
            artifact = known and client.get_model_artifact(version.model, number)
            if artifact and artifact.uri != version.checkpoint.uri:
                return f"has another {version.model} version {number}, {artifact.uri}; it stays"
            if artifact:
                return f"has {version.model} version {number}"
        client.register_model(
            version.model,
            version.checkpoint.uri,
            model_format_name=_FORMAT,
            model_format_version=_FORMAT_VERSION,
            version=number,
            author=version.by,
            owner=version.by,
            version_description=version.verdict,
            metadata=_metadata(version),
            model_source_kind="kfp" if version.kubeflow_run else "dkd",
            model_source_class="pipelinerun" if version.kubeflow_run else "run",
            model_source_id=version.kubeflow_run or version.run,
            model_source_name=version.run,
        )
        return f"has {version.model} version {number} now"

    _tell(endpoint, version.by, register, say)


def tell_production(version: ModelVersion, done: Promotion, endpoint: str, say: Say) -> None:
    """Says which version of a model is in production, there as here.

    Args:
        version: that was put into production; it is registered if it is not there yet.
        done: how.
        endpoint: as for :func:`tell_version`.
        say: likewise.
    """

    def move(client: Any) -> str:
        for number, stands in ((done.was, False), (done.version, True)):
            found = number and client.get_model_version(version.model, str(number))
            if found:
                found.custom_properties = {**(found.custom_properties or {}), "production": stands}
                if stands and done.despite_gate:
                    found.custom_properties["despite_gate"] = done.despite_gate
                client.update(found)
        return f"has {version.model} version {done.version} in production"

    tell_version(version, endpoint, say)
    _tell(endpoint, done.by, move, say)


def tell_removal(model: str, number: int, author: str, endpoint: str, say: Say) -> None:
    """Archives a version there that was removed here: the registry itself deletes none.

    Args:
        model: the model's name.
        number: the version's.
        author: who removed it.
        endpoint: as for :func:`tell_version`.
        say: likewise.
    """

    def archive(client: Any) -> str:
        found = client.get_model_version(model, str(number))
        if found is None:
            return f"has no {model} version {number}"
        found.state = type(found.state)("ARCHIVED")
        client.update(found)
        return f"has {model} version {number} archived"

    _tell(endpoint, author, archive, say)


def _metadata(version: ModelVersion) -> dict[str, str | int | float | bool]:
    scores = version.scores
    names = ("miou_all", "miou_old", "miou_new", "hiou", "pixel_accuracy")
    figures = {name: value for name in names if (value := getattr(scores, name)) is not None}
    origins = {
        "run": version.run,
        "kubeflow_run": version.kubeflow_run,
        "extends_version": str(version.extends or ""),
        "digest": version.checkpoint.digest,
        "memory_uri": version.memory.uri if version.memory else "",
        "evaluation_uri": version.evaluation.uri if version.evaluation else "",
        "dataset": version.dataset.name,
        "dataset_digest": version.dataset.digest,
        "scenario": version.scenario,
        "method": version.method,
        "classes": ", ".join(version.classes),
        "gate": version.state,
    }
    return {**{k: v for k, v in origins.items() if v}, **figures, "production": False}


def _tell(endpoint: str, author: str, what: Callable[[Any], str], say: Say) -> None:
    try:
        from model_registry import ModelRegistry
    except ImportError:
        say("warning: the model registry gets nothing: pip install 'dkd[registry]'")
        return
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of tokens that are not needed everywhere
            client = ModelRegistry(endpoint, author=author, async_runner=_bounded)
            say(f"model registry {endpoint}: {what(client)}")
    except Exception as error:  # whatever it is: a run must not fail of it
        told = " ".join(str(error).split())[:200] or "no answer in time"
        say(f"warning: the model registry {endpoint} was not told ({type(error).__name__}: {told})")


def _bounded(request: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(asyncio.wait_for(request, SECONDS))
