"""Running scenarios on this machine: the pipeline under KFP's local runner.

Without an artifact root, an embedded S3 store runs for as long as the command does.
"""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dkd import methods, storage
from dkd.errors import UserError
from dkd.kubeflow.local_pipeline import Planned
from dkd.kubeflow.local_processes import PipelineProcesses
from dkd.report import collect
from dkd.report.model import RunResult
from dkd.report.tables import table
from dkd.scenario import grid
from dkd.scenario.data import Data
from dkd.scenario.names import check_model_name, check_run_name, of_extension, slug
from dkd.scenario.schema import Scenario
from dkd.steps.initial_weights import WORKSPACE
from dkd.steps.stages import RESULT
from dkd.storage.cache import workspace_cache
from dkd.storage.embedded import EmbeddedStore


def plan(
    scenario: Scenario,
    variants: Sequence[str],
    all_variants: bool,
    seeds: Sequence[int],
    name: str | None,
    values: Mapping[str, Sequence[Any]] | None = None,
    model: str = "",
    registry: str = "",
) -> list[Planned]:
    """The runs that a command asks for: every variant with all values of a grid and every seed.

    All steps that are equal in two of them are trained once: their results are found.

    Args:
        scenario: to begin with.
        variants: names of its variants; the scenario itself if none is given.
        all_variants: take all of them.
        seeds: the scenario's own if none is given.
        name: prefix of the runs' names; the scenario's name by default.
        values: by dotted field name (:mod:`dkd.scenario.grid`).
        model: name of the model whose next version the run makes; empty for none.
        registry: URL of a Kubeflow Model Registry that is told of it.

    Raises:
        UserError: an unknown variant, a combination that cannot be, or several runs for a model.
    """
    arguments = {
        "model_name": check_model_name(model) if model else "",
        "model_registry_url": registry,
    }
    chosen = tuple(scenario.variants) if all_variants else tuple(variants)
    varied = [(v, scenario.variant(v)) for v in chosen] or [
        ("", scenario.override({"variants": {}}))
    ]
    runs = []
    for variant, varying in varied:
        for told, one in grid.combinations(varying, values or {}):
            methods.check(one)
            for seed in seeds or (one.seed,):
                of_seed = f"seed{seed}" if seeds else ""
                run = check_run_name(slug(name or scenario.name, variant, told, of_seed))
                seeded = one.override({"seed": seed})
                epochs = tuple(map(one.training.epochs.at, range(methods.steps(one))))
                runs.append(Planned(run, seeded, arguments, epochs))
    if model and len(runs) > 1:
        raise UserError(
            f"--model {model}: a version is one run's, and these are {len(runs)}; choose one, or "
            f"add the best of them afterwards (dkd models add {model} RUN)"
        )
    return runs


def plan_extension(
    teacher: str,
    classes: Sequence[str],
    data: Data,
    memory: str,
    overrides: Mapping[str, Any],
    name: str | None,
    model: str = "",
    registry: str = "",
) -> Planned:
    """The run that adds classes to a model; see :func:`dkd.steps.stages.prepare_extension`.

    Args:
        teacher: URI of its checkpoint.
        classes: names of the new classes.
        data: images in which these are labelled.
        memory: URI of the memory that goes with the teacher; empty without.
        overrides: values by dotted field of the scenario.
        name: of the run.
        model: name of the model whose next version the result is; empty for none.
        registry: URL of a Kubeflow Model Registry that is told of the model's new version.
    """
    described = data.model_dump(mode="json", exclude_none=True)
    arguments = {
        "add_classes": list(classes),
        "model_name": model,
        "model_registry_url": registry,
        "data_set_uri": data.root,
    }
    settings = {f"data.{name}": value for name, value in described.items()} | dict(overrides)
    run = check_run_name(name) if name else of_extension(classes, teacher)
    return Planned(run, None, arguments, teacher=teacher, memory=memory, settings=settings)


@dataclass(frozen=True)
class Machine:
    """This machine, ready to run pipelines: :func:`ready`.

    Attributes:
        processes: that run them.
        root: artifact root.
        workspace: folder for store, cache and logs.
        say: prints a line.
    """

    processes: PipelineProcesses
    root: str
    workspace: Path
    say: Callable[[str], None]

    def run(self, runs: Sequence[Planned], report_file: Path) -> list[RunResult]:
        """Runs pipelines and writes one report over all of them.

        Args:
            runs: from :func:`plan` or :func:`plan_extension`.
            report_file: where the HTML page goes.

        Raises:
            UserError: a component failed; its own line.
        """
        self.processes.run(runs, self.root, self.workspace, self.say)
        finished = [collect.load(storage.join(self.root, "runs", r.name, RESULT)) for r in runs]
        report_file.parent.mkdir(parents=True, exist_ok=True)
        report_file.write_text(collect.page(finished), encoding="utf-8")
        self.say("\n" + table(finished))
        self.say(f"\nreport: {report_file}")
        return finished


@contextmanager
def ready(
    root: str | None, workspace: Path, say: Callable[[str], None], jobs: int = 1
) -> Iterator[Machine]:
    """Processes that run pipelines, and the artifact root, which starts while they do.

    Args:
        root: the root that was asked for; see :func:`artifact_root`.
        workspace: folder for store, cache and logs.
        say: prints a line.
        jobs: how many runs there may be side by side.

    Raises:
        UserError: the workspace cannot be written, or the store does not start.
    """
    with PipelineProcesses(jobs) as processes, artifact_root(root, workspace, say) as place:
        yield Machine(processes, place, workspace, say)


@contextmanager
def artifact_root(
    root: str | None, workspace: Path, say: Callable[[str], None], *, must_exist: bool = False
) -> Iterator[str]:
    """The artifact root of a command.

    Without one of its own it is the workspace's S3 store, which runs for as long as the block
    does; one that runs already is joined. The environment is then as it was before.

    Args:
        root: the root that was asked for.
        workspace: folder for store, cache and logs.
        say: prints a line.
        must_exist: do not make a new, empty store: the command only reads.

    Raises:
        UserError: the workspace cannot be written, or the store does not start.
    """
    folder = workspace / "s3"
    if root is None and must_exist and not folder.is_dir():
        raise UserError(
            f"{workspace}: no workspace of `dkd run`; name one (--workspace), or the artifact "
            "root (--root)"
        )
    _writable(workspace)
    before = dict(os.environ)
    os.environ.setdefault("DKD_CACHE", str(workspace_cache(workspace).absolute()))
    try:
        if root is not None:
            yield root
            return
        say("starting the embedded S3 store")
        with EmbeddedStore(folder) as store:
            os.environ.update({**store.environment(), WORKSPACE: str(workspace)})
            say(f"artifact root s3://{store.bucket} at {store.endpoint}, kept in {folder}")
            yield f"s3://{store.bucket}"
    finally:
        os.environ.clear()
        os.environ.update(before)


@contextmanager
def reachable(uris: Sequence[str], workspace: Path, say: Callable[[str], None]) -> Iterator[None]:
    """Runs the workspace's store if any of these URIs is in it (``s3://dkd/...``).

    Where the environment names an S3 server of its own, that one is meant.
    """
    ours = any(f"{uri}/".startswith("s3://dkd/") for uri in uris)
    named = any(os.environ.get(key) for key in ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"))
    if not ours or named or not (workspace / "s3").is_dir():
        yield
        return
    with artifact_root(None, workspace, say):
        yield


def _writable(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / ".writable"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise UserError(f"{folder}: cannot be written: {error.strerror}; use --workspace") from None
