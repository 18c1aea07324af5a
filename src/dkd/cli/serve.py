"""``dkd serve``."""

import tempfile
from pathlib import Path

import click

from dkd.cli import checkpoints, options
from dkd.errors import UserError


@click.command("serve")
@click.argument(
    "model", metavar="CHECKPOINT|NAME[:VERSION]|FILE.onnx", type=checkpoints.CheckpointType()
)
@click.option("--host", default="127.0.0.1", show_default=True, help="Interface to listen on.")
@click.option(
    "--port", type=click.IntRange(0, 65535), default=8080, show_default=True, help="HTTP port."
)
@click.option("--grpc-port", type=click.IntRange(0, 65535), help="Serve gRPC too.")
@click.option("--sha256", metavar="DIGEST", help="What the digest of FILE.onnx must be.")
@click.option("--name", default="segmentation", show_default=True, help="Of the model.")
@options.root
@options.workspace
def command(
    model: checkpoints.Given,
    host: str,
    port: int,
    grpc_port: int | None,
    sha256: str | None,
    name: str,
    root: str | None,
    workspace: Path,
) -> None:
    """Serve a model on this machine: a page at /, POST /segment, Open Inference Protocol v2.

    A checkpoint is exported to ONNX first, which takes less than a minute; the two are compared.
    Of a named model (dkd models), the version in production is meant; NAME:VERSION is another one.
    An exported model (a name that ends in .onnx) is served as it is. Ctrl-C ends the server.

    \b
    dkd serve street
    dkd serve s3://dkd/checkpoints/3f...
    curl --data-binary @photograph.jpg http://127.0.0.1:8080/segment -o mask.png
    """
    try:
        from dkd.serving.model import load
        from dkd.serving.server import Place, run
        from dkd.serving.service import Limits, Service
    except ModuleNotFoundError as error:
        raise UserError(f"{error.name} is not installed; pip install 'dkd[serving]'") from None

    exported = str(model).endswith(".onnx")
    if sha256 is not None and not exported:
        raise UserError("--sha256: is for an exported model; a checkpoint is always verified")
    with tempfile.TemporaryDirectory() as folder:
        with checkpoints.reachable(model, root, workspace, _tell) as uri:
            source = uri if exported else _exported(uri, Path(folder))
            loaded = load(source, sha256, threads=1)
        service = Service(loaded, name, Limits())

        def ready(http: int, grpc: int | None) -> None:
            also = "" if grpc is None else f", gRPC on {grpc}"
            click.echo(f"{model}: http://{host}:{http}/{also}; Ctrl-C ends it")

        run(service, Place(host, port, grpc_port), ready)


def _exported(checkpoint: str, folder: Path) -> str:
    from dkd.export import export
    from dkd.network.checkpoint import fetch

    path = folder / "model.onnx"
    photographs = export.bundled_photographs()
    export.export(fetch(checkpoint), str(path), form="onnx", photographs=photographs, tell=_tell)
    return str(path)


def _tell(line: str) -> None:
    click.echo(line, err=True)
