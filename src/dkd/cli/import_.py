"""``dkd import``."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from dkd.cli import options
from dkd.errors import UserError

if TYPE_CHECKING:
    from dkd.network.foreign import Foreign
    from dkd.scenario.schema import Scenario


@click.command("import")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--task", metavar="NAME", help="The published scenario of a released checkpoint.")
@click.option("--step", type=click.IntRange(0), help="Of that scenario. Default: the last.")
@click.option(
    "--classes",
    multiple=True,
    metavar="NAME,NAME,...",
    help="Instead of --task: the class names in channel order, without background; for a "
    "released checkpoint, once for every step.",
)
@click.option(
    "--classes-file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Instead of --classes: YAML with a line 'CHANNEL: name' for each, as in classes.yaml.",
)
@click.option(
    "--background",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    metavar="CHANNEL",
    help="The softmax's channel of background.",
)
@click.option(
    "--activation",
    type=click.Choice(["softmax", "sigmoid"]),
    help="How the channels are read. Default: as config.json says, otherwise softmax; sigmoid "
    "for a single channel.",
)
@click.option(
    "--dataset", default="", metavar="NAME", help="With --classes: the data set, such as voc."
)
@click.option(
    "--crop",
    type=click.IntRange(16),
    default=512,
    show_default=True,
    help="With --classes: the crop of its training; prediction resizes short sides to it.",
)
@click.option("--output", "-o", required=True, metavar="URI", help="Where the checkpoint goes.")
@options.assignments
@options.workspace
def command(
    file: Path,
    task: str | None,
    step: int | None,
    classes: Sequence[str],
    classes_file: Path | None,
    background: int,
    activation: Literal["softmax", "sigmoid"] | None,
    dataset: str,
    crop: int,
    output: str,
    assignments: Sequence[str],
    workspace: Path,
) -> None:
    """Import FILE, a model that another program trained, as a checkpoint.

    FILE is a .pth or safetensors file of torchvision's DeepLabV3 or of
    segmentation_models_pytorch's with a ResNet (or the folder that its save_pretrained wrote), or a
    checkpoint released by the authors of DKD (docs/how-to/import-a-model.md). Exactly the tensors
    of the network must be there, each in its shape; nothing in the file is executed. A softmax
    becomes sigmoids that predict the same masks.

    What a file does not say about its network is taken to be its program's default, and is printed;
    --set replaces it. Later steps are trained as the published task trains them, with --classes as
    VOC 15-1 does; --set changes that too.

    \b
    dkd import model.pth --classes cat,dog --output s3://bucket/checkpoints/mine
    dkd import smp-folder --classes-file classes.yaml --set network.output_stride=16 -o mine
    dkd import step_5.pth --task voc-15-1 --output s3://bucket/checkpoints/released-15-1
    """
    from functools import partial

    from dkd.scenario import catalogue
    from dkd.scenario.parsing import parse_assignments, parse_names

    if (task is not None) + bool(classes) + (classes_file is not None) != 1:
        raise UserError(
            "--task or --classes: name the published task, or the classes by step, or a file of "
            "them (--classes-file)"
        )
    values = parse_assignments(assignments)
    if task is not None:
        names, fields, scenario = _published(task, step)
    elif step is not None:
        raise UserError("--step: belongs to --task; give --classes once for every step")
    else:
        names = tuple(parse_names(item, "--classes") for item in classes)
        if classes_file is not None:
            names = (_listed(classes_file),)
        fields = {"dataset": {"name": dataset, "digest": ""}, "training": {"crop": crop}}
        scenario = catalogue.scenario("voc-15-1", {"data.root": ".", "training.crop": crop})
    from dkd.kubeflow import local_runner
    from dkd.network import foreign
    from dkd.scenario.tasks import Task
    from dkd.steps import importing

    Task(names)  # before the file, which may be large, is read
    found = foreign.recognise(file)
    if found.architecture.softmax:
        found = _converted(found, task, names, background, activation)
        scenario = scenario.override({"protocol": "corrected"})
    elif background or activation:
        option = "--background" if background else "--activation"
        raise UserError(f"{option}: {file} is {found.architecture.name} and has sigmoids")
    network = found.network.model_copy(update={"weights": scenario.network.weights})
    scenario = scenario.model_copy(update={"network": network}).override(values)
    fields["training"] = {**fields["training"], "crop": scenario.training.crop}
    with local_runner.reachable([output], workspace, partial(click.echo, err=True)):
        manifest = importing.publish(found, names, fields, scenario, output)
    click.echo(f"{file}: {found.architecture.name}")
    click.echo(f"  {_told(scenario)}", err=True)
    click.echo(f"{manifest.uri}: {sum(map(len, names))} classes in {len(names)} steps")


def _converted(
    found: "Foreign",
    task: str | None,
    names: Sequence[Sequence[str]],
    background: int,
    activation: Literal["softmax", "sigmoid"] | None,
) -> "Foreign":
    """With a sigmoid a class."""
    what = f"{found.path} is {found.architecture.name}"
    if task is not None:
        raise UserError(f"--task: {what}, not a release; name its classes (--classes)")
    if len(names) > 1:
        raise UserError(f"--classes: {what}, which learned all in one step; give --classes once")
    sigmoid = activation == "sigmoid"
    if activation is None:
        sigmoid = found.channels == 1 if found.sigmoid is None else found.sigmoid
    if sigmoid and background:
        raise UserError("--background: belongs to a softmax; sigmoids have no background's channel")
    return found.converted(len(names[0]), background, sigmoid)


def _told(scenario: "Scenario") -> str:
    """What is taken for granted of a network, in words."""
    network = scenario.network
    mean, std = network.normalisation
    words = {
        "output stride": network.stride,
        "ASPP dilations": "/".join(map(str, network.dilations)),
        "dropout": f"{network.dropout:g}",
        "mean": "/".join(f"{value:g}" for value in mean),
        "std": "/".join(f"{value:g}" for value in std),
        "short side": scenario.training.crop,
    }
    said = ", ".join(f"{name} {value}" for name, value in words.items())
    return f"taken for granted: {said} (--set network.FIELD=VALUE, --crop)"


def _listed(file: Path) -> tuple[str, ...]:
    """Names in channel order of a file like ``classes.yaml``."""
    from dkd.data.formats.folder import read_classes

    classes, _ = read_classes(file)
    if (numbers := list(classes)) != (expected := list(range(1, 1 + len(numbers)))):
        missing = sorted(set(expected) - set(numbers))[0]
        raise UserError(
            f"{file}: no class has the value {missing}; values are channel numbers here, 1 to "
            f"{len(numbers)} without a gap"
        )
    return tuple(classes.values())


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
    fields = {
        "dataset": {"name": scenario.data.format, "digest": ""},
        "method": scenario.method,
        "protocol": scenario.protocol,
        "training": scenario.training.at(number),
    }
    return task.upto(number).steps, fields, scenario
