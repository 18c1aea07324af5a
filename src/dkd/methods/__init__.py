"""Methods by name: those of the package, and others by entry points of the group ``dkd.methods``.

    [project.entry-points."dkd.methods"]
    mine = "my_package:Mine"        # a class of dkd.methods.base.Method

Importing this needs no torch: what a step's key is made of is worked out where there is none.
"""

from importlib.metadata import entry_points
from typing import TypeVar

from dkd.errors import UserError
from dkd.methods.barm import BARM
from dkd.methods.base import Method
from dkd.methods.dkd import DKD
from dkd.methods.finetune import Finetune
from dkd.methods.joint import Joint
from dkd.methods.mib import MiB
from dkd.methods.plop import PLOP
from dkd.methods.star import STAR
from dkd.scenario.schema import Scenario

__all__ = ["METHODS", "METHOD_GROUP", "Method", "check", "get", "names", "steps"]

METHOD_GROUP = "dkd.methods"
METHODS: dict[str, type[Method]] = {
    method.name: method for method in (DKD, STAR, MiB, PLOP, BARM, Finetune, Joint)
}
"""The package's own."""

S = TypeVar("S", bound=Scenario)


def names() -> tuple[str, ...]:
    """Every name that :func:`get` knows."""
    return (*METHODS, *sorted({e.name for e in entry_points(group=METHOD_GROUP)} - METHODS.keys()))


def get(name: str) -> type[Method]:
    """The method of this name.

    Raises:
        UserError: there is none, or the package that brings it cannot be used.
    """
    if name in METHODS:
        return METHODS[name]
    for entry in entry_points(group=METHOD_GROUP, name=name):
        try:
            found = entry.load()
        except (ImportError, AttributeError) as error:
            raise UserError(f"method: {name!r} is {entry.value}, but {error}") from None
        if not (isinstance(found, type) and issubclass(found, Method)):
            raise UserError(f"method: {name!r} is {entry.value}, no class of {Method.__module__}")
        return found
    raise UserError(f"method: {name!r} is none of {', '.join(names())}")


def check(scenario: S, source: str = "") -> S:
    """Checks what only the methods know of a scenario and its variants; returns the scenario.

    Every way in calls this before anything runs: the schema itself knows no method.

    Args:
        scenario: any.
        source: where its values are from, for messages; empty where the field says enough.

    Raises:
        UserError: an unknown method, loss term or option of the method.
    """
    try:
        get(scenario.method).check(scenario)
    except UserError as error:
        raise UserError(f"{source}: {error}" if source else str(error)) from None
    for name in scenario.variants:
        check(scenario.variant(name), source)
    return scenario


def steps(scenario: Scenario) -> int:
    """Number of steps that are trained."""
    return 1 if get(scenario.method).joint else len(scenario.task)
