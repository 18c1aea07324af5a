"""``dkd logs``."""

import click

from dkd.cli import kubeflow
from dkd.log import passed_on


@click.command("logs")
@click.argument("run")
@click.option(
    "--task", default="", metavar="TEXT", help="Only tasks with this in their title, e.g. 'Step 2'."
)
@click.option("--follow", is_flag=True, help="Follow the log until the run ends.")
@kubeflow.options
def command(
    run: str,
    task: str,
    follow: bool,
    endpoint: str | None,
    forwarded: str | None,
    namespace: str,
) -> None:
    """Print what a run's tasks have printed, with the first node's log of every training.

    RUN is the run's id, the beginning of it, or its name.

    \b
    dkd logs 5f0c --task "Step 3" --follow
    """
    from dkd.kubeflow import runs

    with kubeflow.connected(endpoint, forwarded, namespace) as there:
        found = runs.find(there, run)
        runs.logs(
            there, found["run_id"], task, lambda line: click.echo(passed_on(line)), follow=follow
        )
