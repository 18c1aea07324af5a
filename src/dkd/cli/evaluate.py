"""``dkd evaluate``."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from dkd.cli import checkpoints, options, tables
from dkd.cli.progress import progress

if TYPE_CHECKING:
    from dkd.evaluation.any_dataset import Result
    from dkd.scenario.protocols import ProtocolName


@click.command("evaluate")
@checkpoints.option
@click.option("--data", required=True, metavar="PATH_OR_URI", help="Where the data set is.")
@click.option(
    "--format",
    "format_",
    type=click.Choice([*options.FORMAT_NAMES, "packed"]),
    required=True,
    help="Its layout (dkd data --help); packed: an artifact that dkd data pack wrote.",
)
@click.option(
    "--protocol",
    type=click.Choice(["paper", "corrected"]),
    default="corrected",
    show_default=True,
    help="paper: centre crops, as the published tables; corrected: whole images, every pixel.",
)
@click.option(
    "--split",
    type=click.Choice(["validation", "train"]),
    default="validation",
    show_default=True,
    help="Which images to score.",
)
@click.option("--list", "list_", metavar="NAME", help="The split's list, if not the format's own.")
@click.option("--output", "-o", metavar="FILE", help="Write scores and confusion matrix as JSON.")
@options.root
@options.workspace
def command(
    checkpoint: checkpoints.Given,
    data: str,
    format_: str,
    protocol: "ProtocolName",
    split: str,
    list_: str | None,
    output: str | None,
    root: str | None,
    workspace: Path,
) -> None:
    """Score a checkpoint on a data set that has some of its classes, matched by name.

    Images that show a class which the model knows are scored. Every figure is in percent, with its
    95 % confidence interval over these images.
    Under torchrun the images are shared among its processes.

    \b
    dkd evaluate --checkpoint released --data ~/VOC2012 --format voc --protocol paper
    torchrun --nproc-per-node 8 -m dkd evaluate --checkpoint ... --data ... --format voc
    """
    from functools import partial

    from dkd import storage
    from dkd.data import open as opening
    from dkd.evaluation import any_dataset
    from dkd.network.checkpoint import fetch
    from dkd.scenario.data import Data
    from dkd.scenario.protocols import PROTOCOLS
    from dkd.storage.cache import dataset_cache
    from dkd.training.ranks import ranks

    described = Data.model_validate({"format": format_, "root": data, split: list_})
    tell = partial(click.echo, err=True)
    with checkpoints.reachable(checkpoint, root, workspace, tell, [data]) as own, ranks() as place:
        uri = place.share(lambda: own)  # a name may come to stand for another one meanwhile
        quiet = not place.first
        # One rank scans and downloads first; the others find it done.
        dataset = place.share(
            lambda: opening.dataset(
                described, dataset_cache(), progress("scanning", quiet), None if quiet else tell
            )
        )
        model, description, _ = fetch(uri)
        result = any_dataset.score(
            model,
            description,
            dataset,
            split,
            PROTOCOLS[protocol],
            place,
            progress("scored", quiet),
        )
    if not place.first:
        return
    _tell(result, f"{split} images of {dataset.name}, protocol {protocol}, {uri}")
    if output is not None:
        source = {"checkpoint": uri, "dataset": dataset.name, "digest": dataset.digest}
        document = {**source, "split": split, **result.document()}
        storage.write_bytes(output, (json.dumps(document, indent=1) + "\n").encode())


def _tell(result: "Result", scored: str) -> None:
    """Prints the scores."""
    from dkd.evaluation import any_dataset

    classes, means = any_dataset.table(result)
    for line in tables.lines([*classes, *means], right=(0, 2, 3), apart=len(means)):
        click.echo(line)
    click.echo(f"\n{result.images} {scored}")
    if result.absent:
        click.echo(f"not in the data set: {', '.join(result.absent)}", err=True)
