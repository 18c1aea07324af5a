"""A model by its name, wherever a checkpoint is asked for: ``street``, or ``street:3``."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

from dkd.errors import UserError
from dkd.models import catalogue
from dkd.models.version import ModelVersion
from dkd.scenario.names import MODEL_NAME
from dkd.storage import artifacts

_REFERENCE = re.compile(rf"(?P<name>{MODEL_NAME})(:(?P<number>[1-9][0-9]{{0,5}}))?")


@dataclass(frozen=True)
class VersionName:
    """A version of a named model.

    Attributes:
        name: the model's.
        number: the version's; None for the one in production.
    """

    name: str
    number: int | None = None

    def __str__(self) -> str:
        return self.name if self.number is None else f"{self.name}:{self.number}"

    @classmethod
    def of(cls, checkpoint: str) -> Self | None:
        """What a text names, if it is a model's name; None if it is a checkpoint's URI or folder.

        A folder here that holds an artifact is that one, though a model may have its name.
        """
        match = _REFERENCE.fullmatch(checkpoint)
        if match is None or artifacts.find(checkpoint) is not None:
            return None
        number = match["number"]
        return cls(match["name"], None if number is None else int(number))


def resolve(root: str, named: VersionName, say: Callable[[str], None]) -> str:
    """URI of the checkpoint of a model's version, which is whole.

    Args:
        root: artifact root.
        named: the version.
        say: prints a line, which names the version and its checkpoint.

    Raises:
        UserError: there is no such model or version, or none is in production; or the checkpoint is
            gone or another one.
    """
    known = catalogue.names(root)
    if named.name not in known:
        raise UserError(
            f"{named}: no folder with a checkpoint, and no model of that name under {root}; "
            f"models there: {', '.join(known) or 'none'}"
        )
    chosen = _version(root, named)
    catalogue.require_whole(chosen)
    standing = ", in production" if named.number is None else ""
    say(f"model {named.name} version {chosen.version}{standing}: {chosen.checkpoint.uri}")
    return chosen.checkpoint.uri


def _version(root: str, named: VersionName) -> ModelVersion:
    if named.number is None:
        return catalogue.in_production(root, named.name)
    return catalogue.version(root, named.name, named.number)
