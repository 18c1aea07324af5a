"""How commands take a checkpoint: its URI or folder, or a model's name."""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import click
from click.shell_completion import CompletionItem

from dkd.errors import UserError

if TYPE_CHECKING:
    from dkd.models.reference import VersionName

Given: TypeAlias = "str | VersionName"
"""What :class:`CheckpointType` makes of a command's word."""


class CheckpointType(click.ParamType):  # type: ignore[type-arg] # not before click 8.3
    """A URI, folder or exported file stays a string; a model's name becomes a VersionName."""

    name = "checkpoint"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> Given:
        from dkd.models.reference import VersionName

        if isinstance(value, VersionName):
            return value
        text = str(value)
        return text if text.endswith(".onnx") else VersionName.of(text) or text

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """Files, and the models of the artifact root if one is named and answers at once."""
        from dkd.models import catalogue

        names: list[str] = []
        if (root := ctx.params.get("root") or os.environ.get("DKD_ROOT")) and "/" not in incomplete:
            os.environ.update({"DKD_S3_GIVE_UP_SECONDS": "0", "DKD_S3_TIMEOUT_SECONDS": "2"})
            try:
                names = catalogue.names(root)
            except UserError:
                names = []
        found = [CompletionItem(each) for each in names if each.startswith(incomplete)]
        return [*found, CompletionItem(incomplete, type="file")]


argument = click.argument("checkpoint", metavar="CHECKPOINT|NAME[:VERSION]", type=CheckpointType())
option = click.option(
    "--checkpoint",
    required=True,
    metavar="URI|NAME[:VERSION]",
    type=CheckpointType(),
    help="The model: URI or folder of a checkpoint, as a run names it, or a model's name.",
)


@contextmanager
def reachable(
    checkpoint: Given,
    root: str | None,
    workspace: Path,
    say: Callable[[str], None],
    others: Sequence[str] = (),
) -> Iterator[str]:
    """The URI of a checkpoint that a command was given, for as long as the command reads it.

    Args:
        checkpoint: what was given.
        root: artifact root where names are looked up; that of the workspace if None.
        workspace: whose store runs, where something is in it.
        say: prints a line.
        others: further URIs that the command reads or writes.

    Raises:
        UserError: there is no such model or version, or none is in production.
    """
    from dkd.kubeflow import local_runner
    from dkd.models import reference

    with ExitStack() as stack:
        if isinstance(checkpoint, str):
            stack.enter_context(local_runner.reachable([checkpoint, *others], workspace, say))
            yield checkpoint
            return
        if root is None and not (workspace / "s3").is_dir():
            raise UserError(
                f"{checkpoint}: no folder with a checkpoint, and no workspace of `dkd run` to look "
                "for a model of that name; name one (--workspace), or the artifact root (--root)"
            )
        place = stack.enter_context(local_runner.artifact_root(root, workspace, say))
        uri = reference.resolve(place, checkpoint, say)
        stack.enter_context(local_runner.reachable([uri, *others], workspace, say))
        yield uri
