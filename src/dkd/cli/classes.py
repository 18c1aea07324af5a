"""``dkd classes``."""

from collections.abc import Sequence
from pathlib import Path

import click

from dkd.cli import checkpoints, options
from dkd.errors import UserError


@click.command("classes")
@checkpoints.argument
@click.option("--rename", multiple=True, metavar="OLD=NEW", help="Rename a class.")
@click.option("--drop", multiple=True, metavar="NAME,NAME,...", help="Remove classes.")
@click.option(
    "--merge",
    multiple=True,
    metavar="NAME,NAME=NEW",
    help="Make one class of several; it is seen wherever one of them is.",
)
@click.option(
    "--output", "-o", default="", metavar="URI", help="Where the new checkpoint goes. Default: "
    "beside the old one.",
)  # fmt: skip
@options.root
@options.workspace
def command(
    checkpoint: checkpoints.Given,
    rename: Sequence[str],
    drop: Sequence[str],
    merge: Sequence[str],
    output: str,
    root: str | None,
    workspace: Path,
) -> None:
    """Rename, drop or merge a model's classes without training.

    The result is a new checkpoint that names its parent. Where a dropped class was seen, the next
    likeliest class or background is. Without an option, the classes are listed.
    docs/how-to/import-a-model.md says how later steps treat merged classes.

    \b
    dkd classes mine --rename person=people --drop sofa --merge car,bus=vehicle
    """
    from functools import partial

    from dkd.scenario.parsing import parse_names

    renamed: dict[str, str] = {}
    for item in rename:
        olds, new = _sides(item, "--rename")
        if len(olds) > 1:
            raise UserError(f"--rename {item}: one at a time; use --merge to make one of several")
        if olds[0] in renamed:
            raise UserError(f"--rename {item}: {olds[0]!r} has a new name already")
        renamed[olds[0]] = new
    merged: dict[str, tuple[str, ...]] = {}
    for item in merge:
        olds, new = _sides(item, "--merge")
        if new in merged:
            raise UserError(f"--merge {item}: another merge makes {new!r} too")
        merged[new] = olds
    dropped = [name for item in drop for name in parse_names(item, "--drop")]
    tell, others = partial(click.echo, err=True), [output] if output else []
    with checkpoints.reachable(checkpoint, root, workspace, tell, others) as uri:
        if not (renamed or merged or dropped):
            _list(uri)
            return
        from dkd.steps import editing

        manifest = editing.publish(uri, renamed, dropped, merged, output)
        _list(manifest.uri)
        click.echo(f"\n{manifest.uri}")


def _sides(item: str, option: str) -> tuple[tuple[str, ...], str]:
    """``NAME,NAME=NEW`` as names."""
    from dkd.scenario.names import class_name
    from dkd.scenario.parsing import parse_names

    olds, equals, new = item.rpartition("=")
    if not equals or not olds.strip():
        raise UserError(f"{option} {item}: write OLD=NEW, for --merge OLD,OLD=NEW")
    try:
        return parse_names(olds, option), class_name(new)
    except UserError as error:
        raise UserError(f"{option} {item}: {error}") from None


def _list(checkpoint: str) -> None:
    from dkd.steps.step import known_classes
    from dkd.storage import artifacts

    for step, names in enumerate(known_classes(artifacts.load(checkpoint), "checkpoint")):
        click.echo(f"step {step}: {', '.join(names)}")
