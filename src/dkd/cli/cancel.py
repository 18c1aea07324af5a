"""``dkd cancel``."""

import click

from dkd.cli import kubeflow


@click.command("cancel")
@click.argument("run")
@kubeflow.options
def command(run: str, endpoint: str | None, forwarded: str | None, namespace: str) -> None:
    """Terminate a run on Kubeflow Pipelines, as in the UI.

    RUN is the run's id, the beginning of it, or its name. The training job in progress saves its
    state and is deleted. If the run is started again, it continues from there.
    """
    from dkd.kubeflow import runs

    with kubeflow.connected(endpoint, forwarded, namespace) as there:
        found = runs.find(there, run)
        if found.get("state") in runs.FINISHED:
            click.echo(f"run {found['display_name']} has ended: {found['state'].lower()}")
            return
        runs.terminate(there, found)
        click.echo(f"run {found['display_name']}: asked to stop")
