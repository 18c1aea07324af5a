"""``dkd status``."""

import itertools

import click

from dkd.cli import kubeflow


@click.command("status")
@click.argument("run", required=False)
@click.option("--watch", is_flag=True, help="Follow the run to its end.")
@click.option("--most", default=20, show_default=True, help="How many runs to list.")
@kubeflow.options
def command(
    run: str | None,
    watch: bool,
    most: int,
    endpoint: str | None,
    forwarded: str | None,
    namespace: str,
) -> None:
    """List the newest runs on Kubeflow Pipelines, or show one run's steps.

    RUN is the run's id, the beginning of it, or its name.

    \b
    dkd status --endpoint https://kubeflow.example.com
    dkd status 5f0c --watch
    """
    from dkd.cli.submit import follow
    from dkd.kubeflow import runs
    from dkd.kubeflow.graph import graph

    with kubeflow.connected(endpoint, forwarded, namespace) as there:
        if run is None:
            for each in itertools.islice(runs.newest(there), most):
                click.echo(runs.line(each))
            return
        found = runs.find(there, run)
        click.echo(runs.line(found))
        click.echo(there.link(f"runs/details/{found['run_id']}"))
        if watch:
            follow(there, found)
            return
        for node in graph(there, found):
            click.echo(f"  {node.times:<19}  {node}")
        if runs.state(found) in ("failed", "canceled"):
            click.echo(runs.why(there, found))
