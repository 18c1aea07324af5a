"""A run's model becomes a version; where there is a Kubeflow Model Registry, it is told too."""

from collections.abc import Callable

from dkd import storage
from dkd.errors import UserError
from dkd.models import catalogue
from dkd.models.version import ModelVersion, Promotion, of_run
from dkd.report import collect
from dkd.report.model import RunResult
from dkd.steps.stages import RESULT
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
    added = catalogue.add(root, made.model_copy(update={"extends": _parent(root, name, result)}))
    say(f"model {name} version {added.version}: {added.verdict}, {added.checkpoint.uri}")
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


def _parent(root: str, name: str, result: RunResult) -> int | None:
    """The version whose checkpoint was the last step's teacher, the newest if there are several."""
    teacher = result.steps[-1].teacher
    if teacher is None or name not in catalogue.names(root):
        return None
    for each in reversed(catalogue.versions(root, name)):
        if each.checkpoint.digest == teacher.digest:
            return each.version
    return None
