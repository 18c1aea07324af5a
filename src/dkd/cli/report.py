"""``dkd report``."""

from collections.abc import Sequence
from pathlib import Path

import click

from dkd.cli import options


@click.command("report")
@click.argument("runs", nargs=-1, required=True, metavar="RUN...")
@options.root
@options.workspace
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Where to write the HTML page. Default: report.html in the workspace.",
)
@click.option("--markdown", is_flag=True, help="Print the table as Markdown.")
def command(
    runs: Sequence[str], root: str | None, workspace: Path, output: Path | None, markdown: bool
) -> None:
    """Compare finished runs of one task: in a table here, and in one HTML page.

    RUN is a run's name, or the path or URI of its folder or its result.json. Runs of one variant
    that differ only in the seed are shown as mean and standard deviation.

    \b
    dkd report demo-finetune demo-dkd demo-dkd-m
    dkd report s3://bucket/runs/voc-15-1-dkd s3://bucket/runs/voc-15-1-dkd-m -o table.html
    """
    from contextlib import ExitStack
    from functools import partial

    from dkd import storage
    from dkd.kubeflow import local_runner
    from dkd.report import collect
    from dkd.report.tables import markdown_table, table
    from dkd.steps.stages import RESULT

    tell = partial(click.echo, err=True)
    with ExitStack() as stack:
        place = ""
        if any(_is_name(run) for run in runs):
            place = stack.enter_context(
                local_runner.artifact_root(root, workspace, tell, must_exist=True)
            )
        else:
            stack.enter_context(local_runner.reachable(runs, workspace, tell))
        uris = [
            storage.join(place, "runs", run, RESULT)
            if _is_name(run)
            else run
            if run.endswith(".json")
            else storage.join(run, RESULT)
            for run in runs
        ]
        finished = [collect.load(uri) for uri in uris]
    shown = markdown_table(finished) if markdown else table(finished)
    target = output or workspace / "report.html"
    storage.write_bytes(str(target), collect.page(finished).encode())
    click.echo(shown, nl=False)
    click.echo(f"report: {target}", err=True)


def _is_name(run: str) -> bool:
    return "/" not in run and not run.endswith(".json") and not Path(run).is_dir()
