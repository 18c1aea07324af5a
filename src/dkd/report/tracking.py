"""Runs in MLflow, beside the artifact root: an optional tracker, told by its own client.

Where ``MLFLOW_TRACKING_URI`` names a server (``MLFLOW_EXPERIMENT_NAME``, ``MLFLOW_TRACKING_TOKEN``
and the like are the client's own), each step that has been scored is told: settings as parameters,
figures by step and losses by iteration as metrics, checkpoints as tags. The artifact root remains
what counts: a server that does not answer costs a line, never a run.
"""

import os
from collections.abc import Callable, Mapping
from typing import Any

from dkd.report.model import RunResult, StepResult

TRACKING_URI = "MLFLOW_TRACKING_URI"
_EXPERIMENT = "MLFLOW_EXPERIMENT_NAME"
# A server that is away must not hold up a run: the client would wait for minutes.
_PATIENCE = {"MLFLOW_HTTP_REQUEST_TIMEOUT": "20", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1"}
_MOST = 1000  # metrics of a request


def is_wanted(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether the environment names a server."""
    return bool(environment.get(TRACKING_URI))


def tell(
    result: RunResult,
    run: str,
    say: Callable[[str], None],
    *,
    finished: bool,
    environment: Mapping[str, str] = os.environ,
) -> None:
    """Tells MLflow of a run so far, as one run of its own; does nothing where none is named.

    Args:
        result: the run's.
        run: its name.
        say: prints a line: what was told, or why nothing was.
        finished: there is no further step.
        environment: where the server is named.
    """
    address = environment.get(TRACKING_URI, "")
    if not address:
        return
    for name, value in _PATIENCE.items():
        os.environ.setdefault(name, value)
    try:
        from mlflow import MlflowClient
    except ImportError:
        say("warning: MLflow gets nothing: pip install 'dkd[tracking]'")
        return
    try:
        client = MlflowClient(tracking_uri=address)
        known = _run(client, environment.get(_EXPERIMENT) or "dkd", run, result)
        for step in result.steps:
            if _told(step) not in known.data.tags:  # MLflow keeps every value that it is given
                _tell_step(client, known.info.run_id, step)
        if finished:
            client.set_terminated(known.info.run_id)
        say(f"MLflow {address}: run {run} has {len(result.steps)} steps")
    except Exception as error:  # whatever it is: a run must not fail of it
        told = " ".join(str(error).split())[:200]
        say(f"warning: MLflow {address} was not told ({type(error).__name__}: {told})")


def _run(client: Any, experiment: str, run: str, result: RunResult) -> Any:
    """MLflow's run for this one of ours, which is made if there is none."""
    from mlflow.entities import Param

    found = client.get_experiment_by_name(experiment)
    place = found.experiment_id if found else client.create_experiment(experiment)
    tags = {"dkd.run": run, "dkd.root": _root(result)}
    for known in client.search_runs([place], f"tags.`dkd.run` = '{run}'"):
        if tags.items() <= known.data.tags.items():  # a root's name may hold quotes
            return known
    made = client.create_run(place, tags=tags, run_name=run)
    names = ("scenario", "variant", "method", "setting", "protocol", "memory_size", "seed")
    settings = {name: getattr(result, name) for name in names}
    settings |= {"dataset": result.dataset.name, "dataset_digest": result.dataset.digest}
    params = [Param(name, str(value)) for name, value in settings.items()]
    client.log_batch(made.info.run_id, params=params)
    return made


def _root(result: RunResult) -> str:
    """Where the run's results lie."""
    first = next((step.checkpoint for step in result.steps if step.checkpoint), None)
    return "" if first is None else first.uri.rsplit("/", 2)[0]


def _told(step: StepResult) -> str:
    """Name of the tag which says that a step was told."""
    return f"dkd.step_{step.step}.checkpoint"


def _tell_step(client: Any, run: str, step: StepResult) -> None:
    from mlflow.entities import Metric

    scores = step.scores
    figures = {
        "mIoU_all": scores.miou_all,
        "mIoU_old": scores.miou_old,
        "mIoU_new": scores.miou_new,
        "hIoU": scores.hiou,
    }
    metrics = [
        Metric(name, value, 0, step.step) for name, value in figures.items() if value is not None
    ]
    for term, values in step.curve.terms.items():
        name = f"step_{step.step}/loss/{term}"
        points = zip(step.curve.iterations, values, strict=True)
        metrics += [Metric(name, value, 0, at) for at, value in points if value is not None]
    for first in range(0, len(metrics), _MOST):
        client.log_batch(run, metrics=metrics[first : first + _MOST])
    if step.checkpoint is not None:
        client.set_tag(run, _told(step), step.checkpoint.uri)
