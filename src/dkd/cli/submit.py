"""``dkd submit``."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

from dkd.cli import compile as compiling
from dkd.cli import kubeflow
from dkd.errors import UserError

if TYPE_CHECKING:
    from dkd.kubeflow.client import Endpoint
    from dkd.kubeflow.internals import Json


@click.command("submit")
@click.argument("scenario", metavar="SCENARIO")
@compiling.pipeline_options
@click.option(
    "-p",
    "--parameter",
    "parameters",
    multiple=True,
    metavar="NAME=VALUE",
    help="Fill in a field of the run's form, e.g. training_nodes=2; may be given several "
    "times, the last one of a field counts.",
)
@click.option("--run-name", metavar="NAME", help="How the UI lists the run.")
@click.option(
    "--experiment", default="", metavar="NAME", help="Experiment of the run; else the default."
)
@click.option("--create-experiment", is_flag=True, help="Make the experiment if it is new.")
@click.option("--version-name", default="", metavar="NAME", help="Name of the uploaded version.")
@click.option(
    "--service-account",
    default="",
    metavar="NAME",
    help="Account of the run's pods in the cluster.",
)
@click.option(
    "--every", default="", metavar="WHEN", help="Make it recurring: 12h, 7d, or cron '0 3 * * 1'."
)
@click.option("--watch", is_flag=True, help="Follow the run to its end.")
@kubeflow.options
def command(
    scenario: str,
    data: str | None,
    assignments: Sequence[str],
    variant: str | None,
    root: str | None,
    launcher_image: str | None,
    training_image: str | None,
    parameters: Sequence[str],
    run_name: str | None,
    experiment: str,
    create_experiment: bool,
    version_name: str,
    service_account: str,
    every: str,
    watch: bool,
    endpoint: str | None,
    forwarded: str | None,
    namespace: str,
) -> None:
    """Run a scenario's pipeline on Kubeflow Pipelines.

    SCENARIO is a YAML file, a name that ``dkd scenarios`` lists, add-classes, or a pipeline that
    ``dkd compile`` wrote. The values of the form are checked first. The pipeline is then compiled
    if necessary, uploaded as a new version unless the same content is there already, and started.

    To sign in, put a token into DKD_KFP_TOKEN or into the file that DKD_KFP_TOKEN_FILE names, or a
    session's cookie into DKD_KFP_COOKIE. A pod uses its own account; --port-forward needs nothing.

    \b
    dkd submit voc-15-1 --variant DKD-M --data s3://bucket/datasets/voc --watch \\
        --launcher-image R/dkd-launcher@sha256:... --training-image R/dkd-training@sha256:... \\
        -p training_nodes=2 -p training_gpus_per_node=8 --endpoint https://kubeflow.example.com
    dkd submit add-classes -p model_name=street -p add_classes=[sheep] \\
        -p data_set_uri=s3://... --port-forward
    """
    from dkd.kubeflow import runs, uploads
    from dkd.scenario.parsing import split_items

    content, ours = _compiled(
        scenario, data, assignments, variant, root, launcher_image, training_image
    )
    values = uploads.form_values(content, split_items(parameters, "-p", "training_nodes=2"))
    uploads.check(content, values)
    _check_settings(experiment, create_experiment, every, watch)
    name = run_name or " ".join(filter(None, (Path(scenario).stem, variant, runs.now())))
    with kubeflow.connected(endpoint, forwarded, namespace) as there:
        # An experiment is made last: nothing is left behind by a pipeline that is refused.
        place = "" if create_experiment else runs.experiment_id(there, experiment)
        version = uploads.upload(there, content, version_name)
        click.echo(f"pipeline version {version.name} {'uploaded' if version.fresh else 'is there'}")
        if ours:
            compiling.tell_default_image(launcher_image)
        if create_experiment:
            place = runs.make_experiment(there, experiment)
        settings = {"experiment": place, "service_account": service_account, "every": every}
        made = runs.start(there, version, name, values, **settings)
        _show(there, made, name, forwarded or "", watch=watch)


def _check_settings(experiment: str, create_experiment: bool, every: str, watch: bool) -> None:
    from dkd.kubeflow import runs

    if create_experiment and not experiment:
        raise UserError("--create-experiment: name it with --experiment")
    if every:
        runs.trigger(every)
        if watch:
            raise UserError("--watch: follows a single run; leave out --every")


def _compiled(
    scenario: str,
    data: str | None,
    assignments: Sequence[str],
    variant: str | None,
    root: str | None,
    launcher_image: str | None,
    training_image: str | None,
) -> tuple[bytes, bool]:
    """The pipeline, and whether it was compiled just now."""
    from dkd.kubeflow import uploads

    if scenario.endswith((".yaml", ".yml")) and uploads.is_compiled(scenario):
        _refuse_compile_options()
        return uploads.read_compiled(scenario), False
    if scenario == "add-classes":
        compiling.require_no_data(data, variant)
        return compiling.compiled_extension(assignments, root, launcher_image, training_image), True
    chosen = compiling.load(scenario, data, assignments, variant, training_image)
    return compiling.compiled(chosen, root, launcher_image), True


def _refuse_compile_options() -> None:
    """Of the command line alone: a variable such as DKD_ROOT is there for other commands."""
    source = click.get_current_context().get_parameter_source
    for_compiling = ("data", "assignments", "variant", "root", "training_image")
    if any(source(name) is ParameterSource.COMMANDLINE for name in for_compiling):
        raise UserError(
            "SCENARIO: is already compiled; --data, --set, --variant, --root and --training-image "
            "are set in the form now (-p)"
        )


def _show(there: "Endpoint", made: "Json", name: str, forwarded: str, *, watch: bool) -> None:
    """Prints where what was started can be seen, and follows a run if that is asked."""
    if identity := made.get("recurring_run_id"):
        click.echo(f"recurring run {name}: {there.link(f'recurringrun/details/{identity}')}")
        return
    _tell(there, made, forwarded)
    if watch:
        follow(there, made)
    elif forwarded:
        _tell_forwarding(there, forwarded)


def _tell(there: "Endpoint", run: "Json", forwarded: str) -> None:
    """Prints where a run can be watched.

    Args:
        there: where it runs.
        run: the run.
        forwarded: namespace of Kubeflow Pipelines that kubectl forwards to; empty if it does not.
    """
    from dkd.kubeflow.internals import pod_selector

    identity = run["run_id"]
    inside = there.namespace or forwarded or "kubeflow"
    again = identity + " --port-forward" * bool(forwarded)
    again += f" {forwarded}" * (forwarded not in ("", "kubeflow"))
    click.echo(f"run {run['display_name']}: {there.link(f'runs/details/{identity}')}")
    click.echo(
        f"kubectl logs -f -n {inside} -l {pod_selector(identity)} -c main --prefix "
        "--max-log-requests 20"
    )
    click.echo(f"dkd status {again}; dkd logs {again} --follow; dkd cancel {again}")


def _tell_forwarding(there: "Endpoint", namespace: str) -> None:
    from dkd.kubeflow.internals import UI_SERVICE

    port = there.url.rpartition(":")[2]
    click.echo(f"for the link: kubectl port-forward -n {namespace} svc/{UI_SERVICE} {port}:80")


def follow(there: "Endpoint", run: "Json") -> None:
    """Follows a run to its end.

    Raises:
        UserError: it did not succeed.
    """
    from dkd.kubeflow import runs

    ended = runs.watch(there, run["run_id"], click.echo)
    if ended["state"] != "SUCCEEDED":
        raise UserError(runs.why(there, ended))
