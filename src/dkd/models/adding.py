"""A run's model, or any checkpoint, becomes a version; where there is a Kubeflow Model Registry, it
is told too.
"""

from collections.abc import Callable, Mapping
from typing import Any

from dkd import storage
from dkd.errors import UserError
from dkd.models import catalogue
from dkd.models.version import ModelVersion, Promotion, of_checkpoint, of_run
from dkd.report import collect
from dkd.report.model import ArtifactRef, RunResult
from dkd.steps.stages import RESULT
from dkd.steps.step import known_classes, require_memory
from dkd.storage import artifacts
from dkd.storage.artifacts import Manifest
from dkd.storage.cache import artifact_cache
from dkd.storage.store import NotFound

REGISTRY = "DKD_MODEL_REGISTRY"
"""Variable that names the endpoint of a Kubeflow Model Registry."""


def add_run(
    root: str, name: str, run: str, *, registry: str, say: Callable[[str], None]
) -> ModelVersion:
    """Adds the model of a finished run to a model's versions.

    Raises:
        UserError: there is no such run, it is not finished, or the model exists with another task.
    """
    uri = storage.join(root, "runs", run, RESULT)
    try:
        result = collect.load(uri)
    except NotFound:
        raise UserError(f"{root}: no finished run {run!r}; `dkd runs` lists them") from None
    return add_result(root, name, run, result, registry=registry, say=say)


def add_result(
    root: str,
    name: str,
    run: str,
    result: RunResult,
    *,
    registry: str,
    say: Callable[[str], None],
    kubeflow_run: str = "",
) -> ModelVersion:
    """Adds a run's model to a model's versions.

    Args:
        root: artifact root.
        name: the model's.
        run: name of the run.
        result: its.
        registry: endpoint of a Kubeflow Model Registry that is told; empty without.
        say: prints a line.
        kubeflow_run: id of the Kubeflow Pipelines run, if there is one.

    Raises:
        UserError: the model exists with another task. That the registry does not answer is a line.
    """
    made = of_run(
        result,
        model=name,
        run=run,
        by=catalogue.user(),
        created=catalogue.now(),
        kubeflow_run=kubeflow_run,
    )
    teacher = result.steps[-1].teacher
    return _add(root, made, teacher.digest if teacher else "", registry, say)


def add_checkpoint(
    root: str,
    name: str,
    checkpoint: str,
    memory: str = "",
    *,
    registry: str,
    say: Callable[[str], None],
) -> ModelVersion:
    """Adds a checkpoint to a model's versions: one that was imported, or that no named run made.

    What lies elsewhere is copied under the root, where pods reach it and nobody else removes it.

    Args:
        root: artifact root.
        name: the model's.
        checkpoint: its URI.
        memory: URI of the exemplar memory that goes with it; empty without.
        registry: as for :func:`add_result`.
        say: likewise.

    Raises:
        UserError: it is no checkpoint, a run's version has it and a verdict on it already, the
            memory was chosen for other classes, or the model exists with another task.
    """
    found = artifacts.load(checkpoint)
    judged = _version_of(root, name, found.digest)
    if judged and judged.evaluation:
        raise UserError(
            f"model {name}: version {judged.version} has this checkpoint, as run {judged.run!r} "
            "scored it; use that version"
        )
    classes = known_classes(found, "checkpoint")
    catalogue.require_task(root, name, [each for names in classes for each in names])
    kept = artifacts.load(memory) if memory else None
    if kept:
        require_memory(kept, classes)
    made = of_checkpoint(
        found,
        model=name,
        checkpoint=_under(root, "checkpoints", found),
        memory=_under(root, "memories", kept) if kept else None,
        by=catalogue.user(),
        created=catalogue.now(),
    )
    teacher: Mapping[str, Any] = found.metadata.get("teacher") or {}
    return _add(root, made, teacher.get("digest", ""), registry, say)


def _under(root: str, folder: str, found: Manifest) -> ArtifactRef:
    """An artifact under the root, copied there if need be, under its content's name."""
    place = storage.join(root, folder)
    if not found.uri.startswith(f"{place}/"):
        _, parts = artifacts.fetch_cached(found.uri, artifact_cache())
        found = artifacts.publish(
            storage.join(place, found.digest[:32]),
            {name: parts / name for name in found.parts},
            kind=found.kind,
            metadata=found.metadata,
        )
    return ArtifactRef(uri=found.uri, digest=found.digest)


def _add(
    root: str, made: ModelVersion, teacher: str, registry: str, say: Callable[[str], None]
) -> ModelVersion:
    """Adds a version, whose teacher has this digest, and tells of it."""
    parent = _version_of(root, made.model, teacher)
    extends = parent.version if parent else None
    added = catalogue.add(root, made.model_copy(update={"extends": extends}))
    say(f"model {made.model} version {added.version}: {added.verdict}, {added.checkpoint.uri}")
    if registry:
        from dkd.models import registry as kubeflow_registry

        kubeflow_registry.tell_version(added, registry, say)
    return added


def tell_promotion(
    root: str, name: str, done: Promotion, registry: str, say: Callable[[str], None]
) -> None:
    """Tells a Kubeflow Model Registry which version is in production now."""
    from dkd.models import registry as kubeflow_registry

    kubeflow_registry.tell_production(
        catalogue.version(root, name, done.version), done, registry, say
    )


def tell_removal(name: str, number: int, registry: str, say: Callable[[str], None]) -> None:
    """Tells a Kubeflow Model Registry that a version was removed."""
    from dkd.models import registry as kubeflow_registry

    kubeflow_registry.tell_removal(name, number, catalogue.user(), registry, say)


def _version_of(root: str, name: str, checkpoint: str) -> ModelVersion | None:
    """The version whose checkpoint has this digest, the newest if there are several."""
    if not checkpoint or name not in catalogue.names(root):
        return None
    there = reversed(catalogue.versions(root, name))
    return next((each for each in there if each.checkpoint.digest == checkpoint), None)
