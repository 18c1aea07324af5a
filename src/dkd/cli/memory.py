"""``dkd memory``."""

from collections import Counter
from pathlib import Path
from typing import Any

import click

from dkd.cli import options, tables
from dkd.cli.train import perform, step_options


@click.group("memory")
def command() -> None:
    """Choose an exemplar memory, look at one, or remove images from all of them."""


@command.command("show")
@click.argument("uri")
@click.option("--images", is_flag=True, help="List every exemplar too.")
@options.workspace
def show(uri: str, images: bool, workspace: Path) -> None:
    """Show which classes the memory at URI holds, and how often.

    An exemplar with several classes counts for each. Labels are those of the step that an
    exemplar comes from.

    \b
    dkd memory show s3://dkd/memories/3f...
    """
    from functools import partial

    from dkd.errors import UserError
    from dkd.kubeflow import local_runner
    from dkd.steps.step import read_json
    from dkd.storage import artifacts

    with local_runner.reachable([uri], workspace, partial(click.echo, err=True)):
        manifest = artifacts.load(uri)
        if manifest.kind != "memory":
            raise UserError(f"{uri}: is {manifest.called}, not an exemplar memory")
        document = read_json(manifest, "memory.json")
    exemplars = document["exemplars"]
    steps = Counter(exemplar["step"] for exemplar in exemplars)
    origin = ", ".join(f"{count} of step {step}" for step, count in sorted(steps.items()))
    click.echo(f"{uri}: {len(exemplars)} exemplars ({origin}), {manifest.size / 2**20:.1f} MiB")
    held = Counter(name for exemplar in exemplars for name in exemplar["classes"])
    rows = [("step", "class", "exemplars")]
    for step, names in enumerate(document["classes"]):
        rows += [(str(step), name, str(held[name])) for name in names]
    for line in tables.lines(rows, right=(0, 2)):
        click.echo(line)
    for exemplar in exemplars if images else ():
        click.echo(f"{exemplar['id']}  step {exemplar['step']}  {', '.join(exemplar['classes'])}")


@command.command("choose")
@step_options
def choose(**given: Any) -> None:
    """Choose the exemplars of a trained step: memory_size of them, balanced over the classes.

    Name the step as for dkd train, with the same scenario, teacher and memory.

    \b
    dkd memory choose demo --variant DKD --set memory_size=200 --step 0
    """
    perform(("memory",), **given)


@command.command("forget")
@click.argument("images", nargs=-1, required=True, metavar="IMAGE...")
@click.option("--yes", is_flag=True, help="Do it. Without this, only say what would be done.")
@options.root
@options.workspace
def forget(images: tuple[str, ...], yes: bool, root: str | None, workspace: Path) -> None:
    """Remove images from everything under the artifact root that shows them.

    Use this when somebody asks for an image to be removed. IMAGE is an id that dkd memory show
    --images lists, or that a report shows. Memories and evaluations stay where they are, without
    the images. Results and reports are written again. Old files, remains of killed writers, pages
    in the workspace and copies in this machine's cache are deleted. A run that is started again
    afterwards trains the steps that used the memory once more.

    What a model learned from an image stays in it. The models that saw one are listed, together
    with those that began as a copy of such a model. Data sets are yours to clean; they are listed
    with what to do. An image that is still in one is trained on, chosen and shown again.

    \b
    dkd memory forget train-00017               shows what it would do
    dkd memory forget train-00017 --yes
    """
    from datetime import UTC, datetime
    from functools import partial

    from dkd.kubeflow import local_runner
    from dkd.memory import erasure
    from dkd.steps import retention

    with local_runner.artifact_root(
        root, workspace, partial(click.echo, err=True), must_exist=True
    ) as place:
        plan = erasure.plan(retention.survey(place), images, workspace, datetime.now(UTC))
        for line in plan.lines():
            click.echo(line)
        if not yes:
            click.echo("nothing is changed without --yes")
            return
        erasure.apply(plan)
        click.echo(
            f"forgotten in {len(plan.memories)} memories, {len(plan.evaluations)} evaluations and "
            f"{len(plan.runs)} runs' results"
        )
        click.echo(erasure.NOT_REACHED)
