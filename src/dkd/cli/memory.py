"""``dkd memory``."""

from collections import Counter
from pathlib import Path
from typing import Any

import click

from dkd.cli import options
from dkd.cli.train import perform, step_options


@click.group("memory")
def command() -> None:
    """Choose an exemplar memory, or look at one."""


@command.command("show")
@click.argument("uri")
@click.option("--images", is_flag=True, help="List every exemplar too.")
@options.workspace
def show(uri: str, images: bool, workspace: Path) -> None:
    """Say which classes the memory at URI holds, and how often.

    An exemplar with several classes counts for each. Labels are those of the step that an
    exemplar comes from.

    \b
    dkd memory show s3://dkd/memories/3f...
    """
    from functools import partial

    from dkd import local
    from dkd.errors import UserError
    from dkd.steps import read_json
    from dkd.storage import artifacts

    with local.reachable([uri], workspace, partial(click.echo, err=True)):
        manifest = artifacts.load(uri)
        if manifest.kind != "memory":
            raise UserError(f"{uri}: is a {manifest.kind}, not an exemplar memory")
        document = read_json(manifest, "memory.json")
    exemplars = document["exemplars"]
    steps = Counter(exemplar["step"] for exemplar in exemplars)
    origin = ", ".join(f"{count} of step {step}" for step, count in sorted(steps.items()))
    click.echo(f"{uri}: {len(exemplars)} exemplars ({origin}), {manifest.size / 2**20:.1f} MiB")
    held = Counter(name for exemplar in exemplars for name in exemplar["classes"])
    names = [(step, name) for step, group in enumerate(document["classes"]) for name in group]
    width = max(len(name) for _, name in names)
    click.echo(f"step  {'class':<{width}}  exemplars")
    for step, name in names:
        click.echo(f"{step:>4}  {name:<{width}}  {held[name]:>9}")
    for exemplar in exemplars if images else ():
        click.echo(f"{exemplar['id']}  step {exemplar['step']}  {', '.join(exemplar['classes'])}")


@command.command("choose")
@step_options
def choose(**given: Any) -> None:
    """Choose the exemplars after a step that is trained: memory_size of them, balanced.

    The step is named as for dkd train, with the same scenario, teacher and memory.

    \b
    dkd memory choose demo --variant DKD --set memory_size=200 --step 0
    """
    perform("memory", **given)
