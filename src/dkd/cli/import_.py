"""``dkd import``."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dkd.cli import options
from dkd.errors import UserError

if TYPE_CHECKING:
    from dkd.scenario.schema import Scenario


@click.command("import")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--task", metavar="NAME", help="The published scenario it was trained for.")
@click.option("--step", type=click.IntRange(0), help="After which step. Default: the last.")
@click.option(
    "--classes",
    multiple=True,
    metavar="NAME,NAME,...",
    help="Instead of --task: names of a step's classes in channel order; once for every step.",
)
@click.option("--dataset", default="", metavar="NAME", help="With --classes: voc, ade20k, ...")
@click.option(
    "--crop",
    type=click.IntRange(16),
    default=512,
    show_default=True,
    help="With --classes: the crop it was trained with.",
)
@click.option("--output", "-o", required=True, metavar="URI", help="Where the checkpoint goes.")
@options.workspace
def command(
    file: Path,
    task: str | None,
    step: int | None,
    classes: Sequence[str],
    dataset: str,
    crop: int,
    output: str,
    workspace: Path,
) -> None:
    """Turn FILE, a .pth checkpoint released by the paper's authors, into one of ours.

    Every tensor must be there, none more, each of its shape; nothing in the file is executed.
    The result can be scored (dkd evaluate), used (dkd predict) and extended (dkd extend): as the
    published task trains its later steps, with --classes as VOC 15-1 does.

    \b
    dkd import step_5.pth --task voc-15-1 --output s3://bucket/checkpoints/released-15-1
    dkd import mine.pth --classes cat,dog --classes sheep --output released
    """
    from functools import partial

    from dkd.scenario import catalogue
    from dkd.scenario.parsing import parse_names

    if (task is None) == (not classes):
        raise UserError("--task or --classes: name the published task, or the classes by step")
    if task is not None:
        names, fields, scenario = _published(task, step)
    else:
        names = tuple(parse_names(item, "--classes") for item in classes)
        if step is not None:
            raise UserError("--step: belongs to --task; give --classes once for every step")
        fields = {"dataset": {"name": dataset, "digest": ""}, "training": {"crop": crop}}
        scenario = catalogue.scenario("voc-15-1", {"data.root": ".", "training.crop": crop})
    from dkd.kubeflow import local_runner
    from dkd.steps import importing

    with local_runner.reachable([output], workspace, partial(click.echo, err=True)):
        manifest = importing.publish(file, names, fields, scenario, output)
    click.echo(f"{manifest.uri}: {sum(map(len, names))} classes in {len(names)} steps")


def _published(
    name: str, step: int | None
) -> tuple[tuple[tuple[str, ...], ...], dict[str, Any], "Scenario"]:
    """Class names by step, what the scenario says of data set and training, and the scenario."""
    from dkd.scenario import catalogue
    from dkd.scenario.class_names import ADE20K_CLASSES, VOC_CLASSES
    from dkd.scenario.tasks import Task

    if name not in catalogue.published():
        raise UserError(f"--task {name}: none of {', '.join(catalogue.published())}")
    scenario: Scenario = catalogue.scenario(name, {"data.root": "."})
    known = {"voc": VOC_CLASSES, "ade20k": ADE20K_CLASSES}[scenario.data.format]
    task = Task.of(scenario.task, known)
    last = len(task.steps) - 1
    if step is not None and step > last:
        raise UserError(f"--step {step}: {name} has the steps 0 to {last}")
    number = last if step is None else step
    training = scenario.training
    fields = {
        "dataset": {"name": scenario.data.format, "digest": ""},
        "method": scenario.method,
        "protocol": scenario.protocol,
        "training": {
            "epochs": training.epochs.at(number),
            "batch_size": training.batch_size,
            "crop": training.crop,
            "lr": training.lr.at(number),
            "momentum": training.momentum,
            "weight_decay": training.weight_decay,
            "schedule": training.schedule,
            "pos_weight": training.pos_weight.at(number),
        },
    }
    return task.upto(number).steps, fields, scenario
