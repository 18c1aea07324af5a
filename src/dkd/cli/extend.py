"""``dkd extend``."""

from collections.abc import Sequence
from pathlib import Path

import click

from dkd.cli import options
from dkd.cli.progress import training_progress


@click.command("extend")
@click.option(
    "--model",
    default="",
    metavar="NAME",
    help="Model to extend, from its version in production; its memory is found.",
)
@click.option(
    "--teacher", default="", metavar="URI", help="Or the checkpoint of a model without a name."
)
@click.option(
    "--classes",
    required=True,
    metavar="NAME,NAME,...",
    help="Names of the new classes, as the data set has them. If one contains a comma, give a "
    'list: ["traffic light, red", sheep].',
)
@click.option("--data", required=True, metavar="PATH_OR_URI", help="Images with the new labels.")
@click.option(
    "--format",
    "data_format",
    default="folder",
    show_default=True,
    type=click.Choice([*options.FORMAT_NAMES, "packed"]),
    help="Layout of the data set.",
)
@click.option(
    "--memory", default="", metavar="URI", help="Exemplar memory that goes with the teacher."
)
@options.assignments
@options.gate
@options.model_registry
@options.root
@options.workspace
@click.option(
    "--run-name", metavar="NAME", help="Name of the run. Default: from classes and teacher."
)
@click.option(
    "--report",
    "report_file",
    type=click.Path(path_type=Path),
    help="Where to write the report. Default: extension.html in the workspace.",
)
def command(
    model: str,
    teacher: str,
    classes: str,
    data: str,
    data_format: str,
    memory: str,
    assignments: Sequence[str],
    gate: str | None,
    registry: str,
    root: str | None,
    workspace: Path,
    run_name: str | None,
    report_file: Path | None,
) -> None:
    """Add classes to a model that exists, without forgetting the old ones.

    This makes the next checkpoint and memory, and a report of what was gained and forgotten. The
    new step is trained as the teacher's scenario trains its later steps; --set replaces single
    fields (training.epochs.later, memory_size, launch.processes_per_node, ...). The old classes may
    lose 5 points on average, and each new one must reach an IoU of 5 %, unless the model's scenario
    has a gate of its own. The report says whether that was so; with --gate stop the run fails if
    it was not.

    With --model, the result is the model's next version, whatever its gate says; dkd models promote
    puts it into production.

    \b
    dkd extend --model street --classes sheep --data new-images/
    dkd extend --teacher s3://dkd/checkpoints/1f... --classes sheep --data new-images/
    """
    from dkd.errors import UserError
    from dkd.kubeflow import local_runner
    from dkd.models import catalogue
    from dkd.scenario.data import Data
    from dkd.scenario.parsing import parse_assignments, parse_names
    from dkd.scenario.strict_model import parse_part

    described = parse_part(Data, {"format": data_format, "root": data}, source="--data")
    names = parse_names(classes, "--classes")
    values = parse_assignments(assignments) | ({"gate.on_failure": gate} if gate else {})
    if bool(model) == bool(teacher) or (model and memory):
        raise UserError(
            "name the model that is to be extended: --model NAME, or --teacher URI with its "
            "--memory URI"
        )
    report = report_file or workspace / "extension.html"
    with local_runner.ready(root, workspace, click.echo) as machine:
        if model:
            start = catalogue.start_of_extension(machine.root, model, click.echo)
            teacher, memory, values = start.teacher, start.memory, {**start.settings, **values}
        planned = local_runner.plan_extension(
            teacher, names, described, memory, values, run_name, model, registry
        )
        with training_progress({planned.name: {}}):
            finished = machine.run([planned], report)
    for result in finished:
        click.echo(f"checkpoint: {_uri(result.steps[-1].checkpoint)}")


def _uri(reference: object) -> str:
    return str(getattr(reference, "uri", ""))
