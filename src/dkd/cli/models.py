"""``dkd models``."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dkd.cli import options, tables

if TYPE_CHECKING:
    from dkd.models.version import ModelVersion, Promotion

_name = click.argument("name", metavar="NAME")


@click.group("models")
def command() -> None:
    """Name models and their versions, and choose which version is in production.

    A run or an extension with --model NAME adds a version, which never changes. The next extension
    of the model starts from the version in production, which is also the one to serve. Checkpoints
    and memories that a version names stay when their run is removed. predict, evaluate, export,
    serve, classes and statistics take NAME or NAME:VERSION in place of a checkpoint.
    """


def _placed(function: Callable[..., Any]) -> Callable[..., Any]:
    return options.root(options.workspace(function))


@contextmanager
def _root(root: str | None, workspace: Path) -> Iterator[str]:
    from dkd.kubeflow import local_runner

    tell = partial(click.echo, err=True)
    with local_runner.artifact_root(root, workspace, tell, must_exist=True) as place:
        yield place


@command.command("list")
@click.argument("name", metavar="[NAME]", required=False)
@_placed
def list_(name: str | None, root: str | None, workspace: Path) -> None:
    """List the models, or the versions of the model NAME.

    \b
    dkd models list
    dkd models list street
    """
    from dkd.models import catalogue

    with _root(root, workspace) as place:
        if name is None:
            rows = [("MODEL", "PRODUCTION", "VERSIONS", "CLASSES", "mIoU", "GATE")]
            for each in catalogue.names(place):
                found = catalogue.versions(place, each)
                present = _present(catalogue.history(place, each), found)
                shown = present or found[-1]
                rows.append(
                    (
                        each,
                        str(present.version) if present else "none",
                        str(len(found)),
                        str(len(shown.classes)),
                        _percent(shown.scores.miou_all),
                        shown.state,
                    )
                )
            if len(rows) == 1:
                click.echo(f"{place}: no models")
                return
            for line in tables.lines(rows, right=(2, 3, 4)):
                click.echo(line)
            return
        found = catalogue.versions(place, name)
        present = _present(catalogue.history(place, name), found)
    lines = [("VERSION", "", "CREATED", "BY", "RUN", "CLASSES", "mIoU", "GATE")]
    lines += [
        (
            str(each.version),
            "production" if present and each.version == present.version else "",
            each.created[:16].replace("T", " "),
            each.by,
            each.run,
            str(len(each.classes)),
            _percent(each.scores.miou_all),
            each.state,
        )
        for each in found
    ]
    for line in tables.lines(lines, right=(0, 5, 6)):
        click.echo(line)


@command.command("show")
@_name
@click.argument("version", type=click.IntRange(1), required=False)
@click.option("--json", "as_json", is_flag=True, help="Print the version's document alone.")
@click.option(
    "--card",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write the model card here: .md, or .html.",
)
@_placed
def show(
    name: str,
    version: int | None,
    as_json: bool,
    card: Path | None,
    root: str | None,
    workspace: Path,
) -> None:
    """Show a VERSION of the model NAME, by default the one in production, with its card.

    \b
    dkd models show street
    dkd models show street 2 --card street-2.html
    dkd models show street --json | jq -r .checkpoint.uri
    """
    from dkd import storage
    from dkd.errors import UserError
    from dkd.models import catalogue
    from dkd.report import stored_cards

    with _root(root, workspace) as place:
        promotions = catalogue.history(place, name)
        found = catalogue.versions(place, name)
        shown = (
            catalogue.version(place, name, version)
            if version
            else _present(promotions, found) or found[-1]
        )
        if as_json:
            click.echo(shown.to_json(), nl=False)
            return
        if card is not None:
            storage.write_bytes(str(card), stored_cards.read(shown.checkpoint.uri, card.suffix))
            click.echo(f"{card}: the card of {name} version {shown.version}")
            return
        try:
            text = stored_cards.read(shown.checkpoint.uri, ".md").decode()
        except UserError as error:
            text = f"note: {error}\n"
    present = promotions[-1].version if promotions else None
    standing = "in production" if present == shown.version else "not in production"
    click.echo(f"{name} version {shown.version}, {standing}")
    for line in tables.lines(_facts(shown), header=False, indent=2):
        click.echo(line)
    for each in promotions:
        click.echo(f"  {_told(each)}")
    click.echo(f"\n{text}", nl=False)


@command.command("add")
@_name
@click.argument("run", metavar="[RUN]", required=False)
@click.option(
    "--checkpoint",
    default="",
    metavar="URI",
    help="Instead of RUN: a checkpoint, such as `dkd import` made. It is copied under the root.",
)
@click.option(
    "--memory", default="", metavar="URI", help="Exemplar memory that goes with the checkpoint."
)
@options.model_registry
@_placed
def add(
    name: str,
    run: str | None,
    checkpoint: str,
    memory: str,
    registry: str,
    root: str | None,
    workspace: Path,
) -> None:
    """Add the model of the finished run RUN, or a checkpoint, as the next version of NAME.

    \b
    dkd models add street voc-photographs-dkd-m
    dkd models add street --checkpoint imported
    """
    from dkd.errors import UserError
    from dkd.kubeflow import local_runner
    from dkd.models import adding

    if bool(run) == bool(checkpoint) or (run and memory):
        raise UserError(
            "name what becomes a version: a finished RUN, or --checkpoint URI with its --memory URI"
        )
    tell = partial(click.echo, err=True)
    with local_runner.artifact_root(root, workspace, tell, must_exist=bool(run)) as place:
        if run:
            adding.add_run(place, name, run, registry=registry, say=click.echo)
        else:
            adding.add_checkpoint(
                place, name, checkpoint, memory, registry=registry, say=click.echo
            )


@command.command("promote")
@_name
@click.argument("version", type=click.IntRange(1))
@click.option(
    "--despite-gate",
    default="",
    metavar="REASON",
    help="Promote it although its gate was not passed; the reason is kept.",
)
@options.model_registry
@_placed
def promote(
    name: str,
    version: int,
    despite_gate: str,
    registry: str,
    root: str | None,
    workspace: Path,
) -> None:
    """Put the VERSION of the model NAME into production.

    If two people promote at the same time, one wins, and the other is told so.

    \b
    dkd models promote street 2
    dkd models promote street 3 --despite-gate "sheep are rare here; agreed with Ada"
    """
    from dkd.models import catalogue

    with _root(root, workspace) as place:
        user = catalogue.user()
        done = catalogue.promote(place, name, version, by=user, despite_gate=despite_gate)
        click.echo(f"{name}: {_told(done)}")
        _tell_registry(place, name, done, registry)


@command.command("rollback")
@_name
@options.model_registry
@_placed
def rollback(name: str, registry: str, root: str | None, workspace: Path) -> None:
    """Put back into production the version of NAME that was there before.

    \b
    dkd models rollback street
    """
    from dkd.models import catalogue

    with _root(root, workspace) as place:
        done = catalogue.roll_back(place, name, by=catalogue.user())
        click.echo(f"{name}: {_told(done)}")
        _tell_registry(place, name, done, registry)


@command.command("rm")
@_name
@click.argument("version", type=click.IntRange(1))
@click.option("--yes", is_flag=True, help="Remove it. Without this, only say what would go.")
@options.model_registry
@_placed
def remove(
    name: str, version: int, yes: bool, registry: str, root: str | None, workspace: Path
) -> None:
    """Remove the VERSION of the model NAME, and what no run and no other version uses.

    Refused are the version in production, those that it was made from, and the one that a rollback
    would put back. Without --yes nothing is removed. The number is not used again. What a run
    still uses goes with the run (dkd runs rm).

    \b
    dkd models rm street 2          shows what would go and what would stay
    dkd models rm street 2 --yes
    """
    from datetime import UTC, datetime

    from dkd.cli.runs import show_removal
    from dkd.models import adding, catalogue
    from dkd.steps import retention

    with _root(root, workspace) as place:
        catalogue.require_removable(place, name, version)
        found = retention.survey(place)
        called = f"model {name} version {version}"
        chosen = retention.removal_of_version(found, called, datetime.now(UTC))
        freed = show_removal(found, chosen)
        if not yes:
            click.echo(f"{freed} would go; nothing is removed without --yes")
            return
        clear = partial(retention.remove, place, chosen)
        catalogue.remove(place, name, version, by=catalogue.user(), clear=clear)
        click.echo(f"{called} removed, {freed}")
        if registry:
            adding.tell_removal(name, version, registry, partial(click.echo, err=True))


@command.command("diff")
@_name
@click.argument("one", type=click.IntRange(1), required=False)
@click.argument("other", type=click.IntRange(1), required=False)
@_placed
def diff(name: str, one: int | None, other: int | None, root: str | None, workspace: Path) -> None:
    """Compare two versions of NAME, by default the one in production and the last one.

    \b
    dkd models diff street
    dkd models diff street 1 3
    """
    from dkd.errors import UserError
    from dkd.models import catalogue, differences

    with _root(root, workspace) as place:
        found = catalogue.versions(place, name)
        before = catalogue.version(place, name, one) if one else None
        before = before or catalogue.in_production(place, name)
        after = catalogue.version(place, name, other) if other else found[-1]
    if before.version == after.version:
        raise UserError(
            f"model {name}: version {after.version} is the only one, so there is nothing to compare"
        )
    for line in tables.lines(differences.figures(before, after), right=(1, 2, 3)):
        click.echo(line)
    click.echo("")
    columns = ("", f"version {before.version}", f"version {after.version}")
    for line in tables.lines([columns, *differences.facts(before, after)]):
        click.echo(line)


def _present(promotions: "list[Promotion]", found: "list[ModelVersion]") -> "ModelVersion | None":
    from dkd.errors import UserError

    if not promotions:
        return None
    number = promotions[-1].version
    present = next((each for each in found if each.version == number), None)
    if present is None:
        raise UserError(
            f"model {found[0].model}: version {number}, in production, has no document any more; "
            "restore it from a backup, or promote another version"
        )
    return present


def _facts(version: "ModelVersion") -> list[tuple[str, str]]:
    rows = [
        ("gate", version.verdict.removeprefix("Gate: ")),
        ("checkpoint", version.checkpoint.uri),
        ("memory", version.memory.uri if version.memory else "none"),
        ("evaluation", version.evaluation.uri if version.evaluation else "none"),
        ("data set", _dataset(version)),
        ("run", version.run),
        ("added", f"{version.created} by {version.by}"),
    ]
    if version.extends:
        rows.insert(0, ("made from", f"version {version.extends}"))
    if version.kubeflow_run:
        rows.append(("Kubeflow run", version.kubeflow_run))
    return rows


def _dataset(version: "ModelVersion") -> str:
    name, digest = version.dataset.name, version.dataset.digest
    return ", ".join(filter(None, (name, digest[:16]))) or "not known"


def _told(done: "Promotion") -> str:
    way = "back in production" if done.back else "in production"
    was = f" instead of version {done.was}" if done.was else ""
    reason = f"; gate {done.gate}, despite that: {done.despite_gate}" if done.despite_gate else ""
    return f"version {done.version} {way}{was}, {done.created} by {done.by}{reason}"


def _tell_registry(place: str, name: str, done: "Promotion", registry: str) -> None:
    if registry:
        from dkd.models import adding

        adding.tell_promotion(place, name, done, registry, partial(click.echo, err=True))


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{value:.1f}"
