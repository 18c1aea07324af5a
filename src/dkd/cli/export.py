"""``dkd export``."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from dkd.cli import checkpoints, options

if TYPE_CHECKING:
    from dkd.export.export import Exported


@click.command("export")
@checkpoints.argument
@click.option(
    "--format",
    "form",
    type=click.Choice(["onnx", "pt2"]),
    required=True,
    help="ONNX, or a program of torch.export.",
)
@click.option(
    "--output", "-o", required=True, metavar="FILE|URI", help="Where to write; must not exist."
)
@click.option(
    "--gives",
    type=click.Choice(["mask", "logits"]),
    default="mask",
    show_default=True,
    help="Masks of whole images, all in the graph; or logits of images that were resized before.",
)
@click.option("--fp16", is_flag=True, help="The network computes in 16 bits, for GPUs.")
@click.option(
    "--check-images",
    multiple=True,
    type=click.Path(path_type=Path),
    help="Photographs to compare on, files or folders; may be given several times.",
)
@options.root
@options.workspace
def command(
    checkpoint: checkpoints.Given,
    form: str,
    output: str,
    gives: str,
    fp16: bool,
    check_images: Sequence[Path],
    root: str | None,
    workspace: Path,
) -> None:
    """Write the model of CHECKPOINT, or of the model NAME, as one file for other programs.

    Batch, height and width may vary. Normalisation is part of the graph, and the metadata name
    classes, colours and preprocessing. Both models then segment photographs. If more than one pixel
    in ten thousand differs (with --fp16, one in a hundred), nothing is written.

    Of a named model (dkd models), the version in production is meant; NAME:VERSION is another one.

    \b
    dkd export street --format onnx -o street.onnx
    dkd export s3://dkd/checkpoints/3f... --format onnx -o street.onnx
    """
    from dkd.evaluation import predict
    from dkd.export import export
    from dkd.network.checkpoint import fetch

    if check_images:
        photographs = tuple(each.path for each in predict.sources(check_images))
    else:
        photographs = export.bundled_photographs()
    with checkpoints.reachable(checkpoint, root, workspace, _tell, [output]) as uri:
        export.require_absent(output)
        made = export.export(
            fetch(uri),
            output,
            form="onnx" if form == "onnx" else "pt2",
            photographs=photographs,
            gives="mask" if gives == "mask" else "logits",
            precision="fp16" if fp16 else "fp32",
            tell=_tell,
        )
    for line in report(made):
        click.echo(line)


def report(made: "Exported") -> list[str]:
    """What was written, line by line."""
    lines = [
        f"{made.target}: {made.size / 1e6:.1f} MB, {len(made.description.classes)} channels, "
        f"{made.description.precision}, image -> {made.description.gives}",
        f"sha256 {made.sha256}",
    ]
    lines += [
        f"  {each.name} {each.size[0]}x{each.size[1]}: {each.differ} of {each.pixels} pixels "
        f"differ; {each.exported_seconds * 1e3:.0f} ms of CPU, PyTorch {each.seconds * 1e3:.0f} ms"
        for each in made.comparisons
    ]
    lines.append(
        f"masks equal on {made.equal:.4%} of the pixels; {made.speedup:.2f} times as fast as "
        "PyTorch on one thread of a CPU"
    )
    return lines


def _tell(line: str) -> None:
    click.echo(line, err=True)
