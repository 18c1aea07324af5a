"""``dkd weights``."""

from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from dkd.cli import options
from dkd.scenario.imagenet import FILES

if TYPE_CHECKING:
    from dkd.storage.artifacts import Manifest

_backbone = click.Choice(list(FILES))


@click.group("weights")
def command() -> None:
    """Manage the ImageNet weights that training starts from.

    They are torchvision's (IMAGENET1K_V1), kept under an artifact root for every run there. A run
    fetches them itself if it has internet access. On a cluster without it, put them there first:

    \b
    dkd weights fetch resnet101 --root s3://bucket/prefix
    dkd weights add resnet101-63fe2227.pth --backbone resnet101 --root s3://bucket/prefix
    dkd weights list --root s3://bucket/prefix
    """


@command.command("fetch")
@click.argument("backbone", type=_backbone)
@options.root
@options.workspace
def fetch(backbone: str, root: str | None, workspace: Path) -> None:
    """Fetch torchvision's file of BACKBONE and keep it under the artifact root.

    The variable DKD_WEIGHTS_URL names a mirror: the address of a folder with the same files.
    """
    from dkd.scenario import imagenet
    from dkd.steps import initial_weights

    with _artifact_root(root, workspace) as place:
        found = initial_weights.kept(place, backbone)
        _tell(found or _keep(imagenet.address(backbone), backbone, place))


@command.command("add")
@click.argument("source", metavar="FILE_OR_URL")
@click.option("--backbone", type=_backbone, required=True, help="The backbone that they belong to.")
@options.root
@options.workspace
def add(source: str, backbone: str, root: str | None, workspace: Path) -> None:
    """Keep a file as the ImageNet weights of a backbone: .pth or safetensors.

    Its tensors must have torchvision's names and shapes; those of the classifier are left out. If
    the file has a name like torchvision's (resnet101-63fe2227.pth), which contains the first digits
    of its SHA-256, these are compared.
    """
    with _artifact_root(root, workspace) as place:
        _tell(_keep(source, backbone, place))


@command.command("list")
@options.root
@options.workspace
def show(root: str | None, workspace: Path) -> None:
    """Show which weights are under the artifact root."""
    from dkd.steps import initial_weights

    with _artifact_root(root, workspace, must_exist=True) as place:
        for backbone in FILES:
            found = initial_weights.kept(place, backbone)
            if found is None:
                click.echo(f"{backbone}: not there")
            else:
                _tell(found)


@command.command("rm")
@click.argument("backbone", type=_backbone)
@options.root
@options.workspace
def remove(backbone: str, root: str | None, workspace: Path) -> None:
    """Remove the ImageNet weights of BACKBONE; what was trained from them stays."""
    from dkd.errors import UserError
    from dkd.steps import initial_weights
    from dkd.storage import artifacts

    with _artifact_root(root, workspace, must_exist=True) as place:
        found = initial_weights.kept(place, backbone)
        if found is None:
            raise UserError(f"{place}: no ImageNet weights of {backbone} there")
        artifacts.remove(found.uri)
        click.echo(f"removed {found.uri}")


def _artifact_root(
    root: str | None, workspace: Path, *, must_exist: bool = False
) -> AbstractContextManager[str]:
    from dkd.kubeflow import local_runner

    say = partial(click.echo, err=True)
    return local_runner.artifact_root(root, workspace, say, must_exist=must_exist)


def _keep(source: str, backbone: str, root: str) -> "Manifest":
    from dkd.steps import initial_weights
    from dkd.worker.initial_weights import publish

    with initial_weights.fetched(source) as file:
        return publish(file, backbone, initial_weights.imagenet_uri(root, backbone))


def _tell(found: "Manifest") -> None:
    from dkd.steps import initial_weights

    click.echo(f"{found.metadata['backbone']}: {initial_weights.describe(found)}, {found.uri}")
