"""``dkd predict``."""

from collections.abc import Sequence
from pathlib import Path

import click

from dkd.cli import options
from dkd.cli.progress import progress


@click.command("predict")
@click.argument("images", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--checkpoint", required=True, metavar="URI", help="The model, as a run names it.")
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
@click.option("--cpu", is_flag=True, help="Compute on the CPU where there is a GPU.")
@options.workspace
def command(
    images: Sequence[Path],
    checkpoint: str,
    output: Path,
    alpha: float,
    batch: int,
    cpu: bool,
    workspace: Path,
) -> None:
    """Segment IMAGES: JPEG or PNG files, or folders of them, of any size.

    A mask is a PNG of the image's size in the data set's colours; its values are explained in
    classes.json. The image's short side is resized to the crop that the model was trained with.

    \b
    dkd predict --checkpoint s3://dkd/checkpoints/3f... photos/ --output segmented
    """
    import torch

    from dkd.evaluation import predict
    from dkd.kubeflow import local_runner
    from dkd.network import checkpoint as checkpoints

    found = predict.sources(images)
    with local_runner.reachable([checkpoint], workspace, _tell):
        model, description = checkpoints.fetch(checkpoint)
    cuda = torch.cuda.is_available() and not cpu
    predict.predict(
        model,
        found,
        description,
        output,
        device=torch.device("cuda" if cuda else "cpu"),
        batch=batch,
        alpha=alpha,
        progress=progress("segmented"),
    )
    click.echo(f"{output}: masks and overlays of {len(found)} images, {predict.LEGEND}")


def _tell(line: str) -> None:
    click.echo(line, err=True)
