"""The command ``dkd``. One module per command, imported only when it is called."""

import importlib
import sys
from typing import Any

import click

from dkd import __version__, log
from dkd.errors import UserError

COMMANDS = {
    "run": "Run a scenario on this machine, step by step.",
    "extend": "Add classes to a model that exists.",
    "train": "Train one step of a scenario.",
    "evaluate": "Score a checkpoint on a data set.",
    "statistics": "Give a model the statistics that the method star needs.",
    "memory": "Choose, look at or edit an exemplar memory.",
    "predict": "Segment images: coloured masks and overlays.",
    "export": "Write a model as one file for other programs: ONNX, pt2.",
    "serve": "Serve a model on this machine: a page, curl, gRPC.",
    "report": "Make a table and an HTML page from finished runs.",
    "models": "Name models and their versions: list, show, promote, roll back, compare.",
    "runs": "List the runs of an artifact root, or remove one.",
    "compile": "Write a scenario's pipeline as KFP YAML.",
    "submit": "Run a pipeline on Kubeflow Pipelines.",
    "status": "Show the runs on Kubeflow Pipelines, or one run's steps.",
    "logs": "Print what the tasks of such a run have printed.",
    "cancel": "Terminate such a run.",
    "data": "Check, index, pack or make a data set.",
    "scenarios": "List the published scenarios, or show one.",
    "weights": "Fetch, add or list the ImageNet weights that training starts from.",
    "import": "Import a model of torchvision, smp or the authors of DKD.",
    "classes": "Rename, drop or merge a model's classes without training.",
    "doctor": "Show what this machine has: versions, GPUs, S3, shared memory.",
}


NARRATING = ("run", "extend", "train", "statistics", "serve", "submit", "logs")
"""Commands whose standard output tells of their work (:mod:`dkd.log`); that of the others is what
they were asked for.
"""


class Commands(click.Group):
    """Imports a command's module when it is asked for, so that ``dkd --help`` is instant."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"dkd.cli.{cmd_name.replace('import', 'import_')}")
        command: click.Command = module.command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except UserError as error:
            click.echo(f"dkd: {error}", err=True)
            sys.exit(2)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="dkd")
@click.pass_context
def main(context: click.Context) -> None:
    """Class-incremental semantic segmentation: learn new classes step by step
    and keep the old ones.

    \b
    Try it:            dkd run demo
    Your own data:     dkd data check FOLDER --format voc, then dkd run my-scenario.yaml
    A new class:       dkd extend --teacher URI --classes sheep --data FOLDER
    A published table: dkd scenarios, then dkd run voc-15-1 --data FOLDER
    """
    log.start(output=context.invoked_subcommand in NARRATING)
