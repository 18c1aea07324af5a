"""``dkd train``, and what it shares with ``dkd memory choose``: one step."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dkd.cli import options
from dkd.cli.progress import training_progress
from dkd.errors import UserError

if TYPE_CHECKING:
    from dkd.scenario.schema import Scenario
    from dkd.steps.step import Stage, Step

_OPTIONS = (
    options.scenario,
    options.data,
    options.assignments,
    click.option("--variant", metavar="NAME", help="A variant of the scenario."),
    click.option("--step", type=click.IntRange(0), required=True, help="Which step, from 0 on."),
    click.option(
        "--dataset", metavar="URI", help="The data set artifact. Default: made from the scenario."
    ),
    click.option("--teacher", default="", metavar="URI", help="The previous step's checkpoint."),
    click.option("--memory", default="", metavar="URI", help="The exemplars that it trains with."),
    click.option(
        "--run-name", metavar="NAME", help="Of the run. Default: scenario's name and variant."
    ),
    options.root,
    options.workspace,
)


def step_options(function: Callable[..., None]) -> Callable[..., None]:
    """The options by which a step is named."""
    for option in reversed(_OPTIONS):
        function = option(function)
    return function


@click.command("train")
@step_options
def command(**given: Any) -> None:
    """Train one step of a scenario; then score it and, with memory_size, choose exemplars.

    Whatever is already under the artifact root is not made again. A step after the first needs the
    previous step's checkpoint (--teacher), and its memory where the scenario keeps one.

    \b
    dkd train demo --variant DKD --step 0
    dkd train demo --variant DKD --step 1 --teacher s3://dkd/checkpoints/3f...
    """
    perform(("train", "evaluate", "memory"), **given)


def perform(
    wanted: Sequence["Stage"],
    scenario: str,
    data: str | None,
    assignments: Sequence[str],
    variant: str | None,
    step: int,
    dataset: str | None,
    teacher: str,
    memory: str,
    run_name: str | None,
    root: str | None,
    workspace: Path,
) -> None:
    """Has stages of a step done, and prints the URIs of what there is then.

    Raises:
        UserError: bad input, or the job failed.
    """
    from functools import partial

    from dkd.data import packed
    from dkd.kubeflow import local_runner
    from dkd.scenario.names import check_run_name, slug
    from dkd.scenario.tasks import Task
    from dkd.steps import initial_weights, stages
    from dkd.steps.step import Step, StepSpec

    placeholder = dataset or ""  # a data set artifact stands for the folder
    whole = options.load_scenario(scenario, data, assignments, placeholder)
    chosen = (
        whole.override({"label": "", "variants": {}}) if variant is None else whole.variant(variant)
    )
    _check(wanted, chosen, step, teacher)
    name = check_run_name(run_name) if run_name else slug(chosen.name, variant or "")
    with local_runner.artifact_root(root, workspace, partial(click.echo, err=True)) as place:
        if dataset is None:
            prepared = stages.prepare(chosen, place, click.echo)
            chosen, task, dataset = prepared.scenario, prepared.task, prepared.dataset
        else:
            if step == 0:
                chosen = initial_weights.prepare(chosen, place, click.echo)
            task = Task.of(chosen.task, packed.open_dataset(dataset)[0].classes)
        opened = Step.open(
            StepSpec(
                scenario=chosen,
                task=task.steps,
                step=step,
                dataset=dataset,
                root=place,
                teacher=teacher,
                memory=memory,
            )
        )
        _make(opened, name, wanted)


def _check(wanted: Sequence["Stage"], chosen: "Scenario", step: int, teacher: str) -> None:
    """Whether the scenario has the step, and the step what it needs.

    Raises:
        UserError: it does not.
    """
    from dkd import methods

    if step >= (count := methods.steps(chosen)):
        raise UserError(f"--step {step}: {chosen.name} has the steps 0 to {count - 1}")
    if (step > 0) != bool(teacher):
        needed = f"name the checkpoint of step {step - 1}" if step else "step 0 has no teacher"
        raise UserError(f"--teacher: {needed}")
    if "train" not in wanted and chosen.memory_size == 0:
        raise UserError("memory_size: is 0; say how many to choose, e.g. --set memory_size=100")


def _make(step: "Step", run: str, wanted: Sequence["Stage"]) -> None:
    """Has stages of a step done, and prints the URIs of what there is then."""
    from dkd.steps import stages
    from dkd.storage import artifacts

    if "train" not in wanted and artifacts.find(step.checkpoint_uri) is None:
        raise UserError(
            f"step {step.number}: not trained yet with this scenario, data set, teacher and "
            "memory; use dkd train"
        )
    with training_progress({run: {step.number: step.scenario.training.epochs.at(step.number)}}):
        stages.ensure(step.spec, run, wanted, click.echo)
    click.echo("")
    for done in step.stages:
        click.echo(f"{done:<9} {stages.result_uri(step, done)}")
