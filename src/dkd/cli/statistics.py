"""``dkd statistics``."""

from pathlib import Path

import click

from dkd.cli import checkpoints, options
from dkd.cli.progress import progress


@click.command("statistics")
@checkpoints.argument
@click.option("--data", required=True, metavar="PATH_OR_URI", help="Images of all its classes.")
@click.option(
    "--format",
    "format_",
    type=click.Choice([*options.FORMAT_NAMES, "packed"]),
    required=True,
    help="Their layout (dkd data --help); packed: an artifact that dkd data pack wrote.",
)
@click.option("--train", metavar="NAME", help="The training list, if not the format's own.")
@click.option(
    "--keep",
    type=click.Choice(["full", "basic"]),
    default="full",
    show_default=True,
    help="What is kept: method_options.variant of the steps that go on from it.",
)
@click.option("--output", "-o", required=True, metavar="URI", help="Where the new checkpoint goes.")
@options.root
@options.workspace
def command(
    checkpoint: checkpoints.Given,
    data: str,
    format_: str,
    train: str | None,
    keep: str,
    output: str,
    root: str | None,
    workspace: Path,
) -> None:
    """Give a model the statistics that the method star needs to continue from it.

    CHECKPOINT is any model with sigmoids, whichever method trained it. The same weights are
    published again, together with statistics of every class. If the old images are gone, use
    method_options.variant=lite, which needs none. Under torchrun the images are shared.

    \b
    dkd statistics s3://dkd/checkpoints/1f... --data VOC2012 --format voc -o s3://dkd/mine
    """
    from contextlib import ExitStack
    from functools import partial

    from dkd.data import open as opening
    from dkd.evaluation.any_dataset import images_folder
    from dkd.scenario.data import Data
    from dkd.scenario.strict_model import parse_part
    from dkd.storage.cache import dataset_cache
    from dkd.training.ranks import ranks
    from dkd.worker import statistics

    named = {"format": format_, "root": data, "train": train}
    described = parse_part(Data, named, source="--data")
    with ExitStack() as stack:
        tell = partial(click.echo, err=True)
        own = stack.enter_context(
            checkpoints.reachable(checkpoint, root, workspace, tell, [data, output])
        )
        place = stack.enter_context(ranks())
        uri = place.share(lambda: own)  # a name may come to stand for another one meanwhile
        quiet = not place.first
        dataset = place.share(
            lambda: opening.dataset(
                described, dataset_cache(), progress("scanning", quiet), None if quiet else tell
            )
        )
        folder = images_folder(dataset, dataset.train)
        say = (lambda _line: None) if quiet else tell
        made = statistics.publish(uri, dataset, folder, described, keep, output, place, say)
    if made is not None:
        click.echo(f"{made.uri}: continue it with --set method=star")
