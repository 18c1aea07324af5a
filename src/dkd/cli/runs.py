"""``dkd runs``."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from dkd.cli import options, tables

if TYPE_CHECKING:
    from dkd.steps.retention import Removal, Survey


@click.group("runs", invoke_without_command=True)
@options.root
@options.workspace
@click.pass_context
def command(context: click.Context, root: str | None, workspace: Path) -> None:
    """List the runs of an artifact root; explain one (dkd runs why), or remove it (dkd runs rm).

    STATE is "finished", or how many steps are trained. SIZE is everything that the run uses: data
    set, models, evaluations, memories, saves. Runs of one task share steps and data. SHARED is how
    much of it other runs use, and WITH names these; that part stays when the run is removed.

    \b
    dkd runs
    dkd runs --root s3://bucket/dkd
    """
    if context.invoked_subcommand is not None:
        context.obj = (root, workspace)
        return
    from dkd.kubeflow import local_runner
    from dkd.steps import retention

    with local_runner.artifact_root(
        root, workspace, partial(click.echo, err=True), must_exist=True
    ) as place:
        lines = retention.summaries(retention.survey(place))
    if not lines:
        click.echo(f"{place}: no runs")
        return
    rows = [("RUN", "STATE", "STARTED", "SIZE", "SHARED", "WITH")]
    rows += [
        (
            line.name,
            line.state,
            f"{line.started:%Y-%m-%d %H:%M}",
            size(line.size),
            size(line.shared),
            ", ".join(line.others),
        )
        for line in lines
    ]
    for text in tables.lines(rows, right=(3, 4)):
        click.echo(text)


@command.command("why")
@click.argument("name")
@options.root
@options.workspace
@click.pass_obj
def why(outer: tuple[str | None, Path], name: str, root: str | None, workspace: Path) -> None:
    """Say where the steps of the run NAME come from, and why it had to train some of them.

    A step is found if a run has made it from the same data, labels, teacher, memory, settings, seed
    and program. For each step that was trained, the nearest earlier result is named, with every
    field in which the two differ.

    \b
    dkd runs why demo-dkd
    """
    from dkd.kubeflow import local_runner
    from dkd.steps import explanation, retention

    at, where = _place(outer, root, workspace)
    with local_runner.artifact_root(
        at, where, partial(click.echo, err=True), must_exist=True
    ) as place:
        explanations = explanation.explain(retention.survey(place), name)
    for each in explanations:
        how = (
            "not trained yet"
            if not each.run
            else f"trained {each.created}"
            if each.run == name
            else f"found, trained {each.created} by run {each.run}"
        )
        click.echo(f"step {each.step}  {each.place}  {how}")
        if each.nearest is not None:
            click.echo(f"  nearest: {each.nearest.place} of run {each.nearest.run}, but for")
            for difference in each.nearest.differs:
                click.echo(f"    {difference}")
        elif each.run in ("", name):
            click.echo("  there was no other result of this step")


@command.command("rm")
@click.argument("name")
@click.option("--yes", is_flag=True, help="Remove it. Without this, only say what would go.")
@click.option(
    "--stopped",
    is_flag=True,
    help="The run has stopped, although it wrote something within the last hour.",
)
@options.root
@options.workspace
@click.pass_obj
def remove(
    outer: tuple[str | None, Path],
    name: str,
    yes: bool,
    stopped: bool,
    root: str | None,
    workspace: Path,
) -> None:
    """Remove the run NAME and whatever nothing else uses. Nothing is removed without --yes.

    Models, evaluations, memories and data sets that another run uses stay, and so does what these
    were made from. A run in progress notes what it uses before it trains, so it keeps its saves and
    what it is about to publish. Remains of killed writers (saves, halves of artifacts, multi-part
    uploads) are removed too once they are a day old, whichever run they came from.

    \b
    dkd runs rm demo-dkd          shows what would go and what would stay
    dkd runs rm demo-dkd --yes
    """
    from datetime import UTC, datetime

    from dkd.kubeflow import local_runner
    from dkd.steps import retention

    at, where = _place(outer, root, workspace)
    with local_runner.artifact_root(
        at, where, partial(click.echo, err=True), must_exist=True
    ) as place:
        found = retention.survey(place)
        chosen = retention.removal(found, name, datetime.now(UTC), stopped=stopped)
        freed = show_removal(found, chosen)
        if not yes:
            click.echo(f"{freed} would go; nothing is removed without --yes")
            return
        retention.remove(place, chosen)
        click.echo(f"removed, {freed}")


def show_removal(found: "Survey", chosen: "Removal") -> str:
    """Prints what goes and what stays; returns how much would be freed."""
    for what, places in (("goes", chosen.places), ("left over", chosen.leftovers)):
        for each in places:
            click.echo(f"{what:<9}  {size(found.size([each])):>10}  {each}")
    for upload in chosen.unfinished:
        click.echo(f"{'upload':<9}  {'':>10}  {upload.uri}, begun {upload.started:%Y-%m-%d}")
    for each, names in chosen.kept.items():
        click.echo(f"{'stays':<9}  {size(found.size([each])):>10}  {each}: {', '.join(names)}")
    return size(found.size((*chosen.places, *chosen.leftovers)))


def _place(
    outer: tuple[str | None, Path], root: str | None, workspace: Path
) -> tuple[str | None, Path]:
    """Root and workspace, given behind ``runs`` or behind its subcommand."""
    return root or outer[0], outer[1] if workspace == Path("dkd-workspace") else workspace


def size(count: int) -> str:
    """Bytes in a unit that a person reads."""
    units = ("B", "KiB", "MiB", "GiB", "TiB")
    power = min((max(count, 1).bit_length() - 1) // 10, len(units) - 1)
    number = count / 2 ** (10 * power)
    return f"{number:.0f} {units[power]}" if power == 0 else f"{number:.1f} {units[power]}"
