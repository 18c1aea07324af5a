"""``dkd predict``."""

import sys
from collections.abc import Sequence
from pathlib import Path

import click

from dkd.cli import checkpoints, options
from dkd.cli.progress import progress


@click.command("predict")
@click.argument("images", nargs=-1, required=True, type=click.Path(path_type=Path))
@checkpoints.option
@click.option(
    "--output",
    "-o",
    required=True,
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder for masks/, overlays/ and classes.json.",
)
@click.option(
    "--alpha",
    type=click.FloatRange(0, 1),
    default=0.5,
    show_default=True,
    help="How much of a class's colour an overlay shows.",
)
@click.option(
    "--batch",
    type=click.IntRange(1),
    default=8,
    show_default=True,
    help="Images of one size that are segmented together.",
)
@click.option("--cpu", is_flag=True, help="Compute on the CPU even if there is a GPU.")
@options.root
@options.workspace
def command(
    images: Sequence[Path],
    checkpoint: checkpoints.Given,
    output: Path,
    alpha: float,
    batch: int,
    cpu: bool,
    root: str | None,
    workspace: Path,
) -> None:
    """Segment IMAGES: JPEG, PNG, TIFF or WebP files, or folders of them, of any size.

    A mask is a PNG of the image's size in the data set's colours (beyond 254 classes of 16 bits,
    without colours); classes.json explains its values. The image's short side is resized to the
    crop that the model was trained with. Results appear as they are ready. An image that cannot be
    read is named, the others are segmented, and the exit status is 1. Called again, the command
    does what is missing: images that are new or have changed, or all of them for another model.
    Results are never taken for images.

    Of a named model (dkd models), the version in production is meant; NAME:VERSION is another one.

    \b
    dkd predict --checkpoint street photos/ --output segmented
    dkd predict --checkpoint s3://dkd/checkpoints/3f... photos/ --output segmented
    """
    import dkd
    from dkd.evaluation import predict

    found = predict.sources(images)
    with checkpoints.reachable(checkpoint, root, workspace, _tell) as uri:
        model = dkd.load(uri, "cpu" if cpu else None)
    outcome = predict.predict(
        model,
        found,
        output,
        batch=batch,
        alpha=alpha,
        progress=progress("segmented"),
        complain=lambda line: _tell(f"dkd: {line}"),
    )
    before = f", {outcome.found} were there" if outcome.found else ""
    click.echo(
        f"{output}: masks and overlays of {outcome.made + outcome.found} images{before}, "
        f"{predict.LEGEND}"
    )
    if outcome.refused:
        _tell(f"{len(outcome.refused)} of {len(found)} images could not be read")
        sys.exit(1)


def _tell(line: str) -> None:
    click.echo(line, err=True)
