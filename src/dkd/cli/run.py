"""``dkd run``."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING

import click

from dkd.cli import options
from dkd.cli.progress import training_progress

if TYPE_CHECKING:
    from dkd.report.model import RunResult
    from dkd.scenario.schema import Scenario


@click.command("run")
@options.scenario
@options.data
@options.assignments
@options.gate
@options.root
@options.workspace
@click.option(
    "--variant",
    "variants",
    multiple=True,
    metavar="NAME",
    help="Run this variant of the scenario; may be given several times.",
)
@click.option("--all-variants", is_flag=True, help="Run every variant of the scenario.")
@click.option(
    "--grid",
    "grids",
    multiple=True,
    metavar="FIELD=VALUE,VALUE,...",
    help="Run once for each value of this field; given several times, for every combination.",
)
@click.option("--seeds", metavar="N,N,...", help="Run once for each of these seeds.")
@click.option(
    "--jobs",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help="How many runs to do side by side, if there are several.",
)
@click.option(
    "--run-name",
    metavar="NAME",
    help="Name of the run; an unfinished run of that name is continued. "
    "Default: from the scenario's name, variant and seed.",
)
@click.option(
    "--model", default="", metavar="NAME", help="Make the next version of this model (dkd models)."
)
@options.model_registry
@click.option(
    "--report",
    "report_file",
    type=click.Path(path_type=Path),
    help="Where to write the report. Default: report.html in the workspace.",
)
def command(
    scenario: str,
    data: str | None,
    assignments: Sequence[str],
    gate: str | None,
    root: str | None,
    workspace: Path,
    variants: Sequence[str],
    all_variants: bool,
    grids: Sequence[str],
    seeds: str | None,
    jobs: int,
    run_name: str | None,
    model: str,
    registry: str,
    report_file: Path | None,
) -> None:
    """Run a scenario on this machine, step by step.

    SCENARIO is a YAML file or a name that ``dkd scenarios`` lists. It is the pipeline that a
    cluster runs, under Kubeflow Pipelines' local runner: every step is a torchrun job, and
    checkpoints and exemplar memory pass through S3. Without --root, an S3 store is started in
    the workspace. Whatever was trained before is found and not trained again.

    \b
    dkd run demo --all-variants
    dkd run voc-15-1 --data ~/VOC2012 --set training.precision=fp32 --seeds 1,2,3
    dkd run my-scenario.yaml --data FOLDER --model street
    dkd run demo --grid method=dkd,star --grid training.lr.later=1e-3,2e-3
    """
    from dkd.kubeflow import local_runner
    from dkd.scenario.grid import parse_grid

    chosen = options.load_scenario(scenario, data, assignments)
    if gate:
        chosen = chosen.override({"gate.on_failure": gate})
    plan = local_runner.plan(
        chosen,
        variants,
        all_variants,
        options.seeds(seeds),
        run_name,
        parse_grid(grids),
        model,
        registry,
    )
    report = report_file or workspace / "report.html"
    jobs = min(jobs, len(plan))
    with (
        training_progress({each.name: dict(enumerate(each.epochs)) for each in plan}),
        local_runner.ready(root, workspace, click.echo, jobs) as machine,
    ):
        finished = machine.run(plan, report)
    for line in _what_next(chosen, finished, root, workspace, model):
        click.echo(line)


def _what_next(
    scenario: "Scenario",
    finished: "Sequence[RunResult]",
    root: str | None,
    workspace: Path,
    model: str,
) -> Iterator[str]:
    """What can be done with the best model now, as commands."""
    from dkd.report.comparison import compare

    best = compare(finished).best
    last = best.first.steps[-1]
    if last.checkpoint is None:
        return
    place = f"--workspace {quote(str(workspace))}" + (f" --root {quote(root)}" if root else "")
    data, new = "FOLDER", "NAME"
    yield ""
    if model:
        yield "Put the version into production:"
        yield f"    dkd models promote {place} {model} VERSION"
    yield f"Add a class to the model {model or f'of {best.label}'}:"
    if scenario.data.format == "pictograms":
        data, new = quote(str(workspace / "umbrellas")), "umbrella"
        yield f"    dkd data pictograms {data} --new-class {new} --train 200 --validation 100"
    memory = f" --memory {last.chosen.uri}" if last.chosen else ""
    teacher = f"--model {model}" if model else f"--teacher {last.checkpoint.uri}{memory}"
    yield f"    dkd extend {place} --classes {new} --data {data} \\"
    yield f"        {teacher}"
    yield "Use your own data: docs/tutorials/your-own-data.md"
    yield "Run on a cluster: docs/tutorials/first-cluster.md"
