"""Scenarios: everything that defines a run, as YAML checked by a schema.

    dkd run my-scenario.yaml --set training.epochs.later=30 --set method=finetune

A scenario is the unit people name, submit and compare. It says what is learned (data, task,
setting), how (method, memory, protocol, network, training) and where (launch). Everything
but ``name``, ``label``, ``description``, ``licence``, ``gate``, ``speed``, ``launch`` and
``variants`` can change the result beyond its rounding.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from dkd.errors import UserError, one_line
from dkd.scenario import strict_yaml
from dkd.scenario.data import Data
from dkd.scenario.gate import Gate
from dkd.scenario.launch import Launch
from dkd.scenario.names import class_name
from dkd.scenario.network import Network
from dkd.scenario.protocols import ProtocolName
from dkd.scenario.speed import Speed
from dkd.scenario.strict_model import Seed, StrictModel, Weight, parse_part, shown
from dkd.scenario.tasks import MOST_CLASSES
from dkd.scenario.training import Training

Setting = Literal["overlap", "disjoint", "partitioned"]


def _class_of(value: object) -> object:
    """A class of the task: a label value of the data set, or a name."""
    if isinstance(value, str):
        try:
            return class_name(value)
        except UserError as error:
            raise ValueError(str(error)) from None
    if not isinstance(value, int) or isinstance(value, bool):
        raise ValueError(
            f"a class is a name or a label value, not {shown(value)}; as a name it is written "
            f"{strict_yaml.quoted(value)}"
            if isinstance(value, bool | float | None)
            else "a class is a name or a label value; a task is a list of lists of classes"
        )
    if not 1 <= value <= MOST_CLASSES:
        raise ValueError(f"label values of classes are 1..{MOST_CLASSES}, not {shown(value)}")
    return value


Class = Annotated[int | str, BeforeValidator(_class_of)]
Classes = Annotated[tuple[Class, ...], Field(strict=False, min_length=1)]
"""The classes of a step; YAML and JSON have lists where this program has tuples."""


class Scenario(StrictModel):
    """A whole scenario. See the module's text.

    Attributes:
        name: name of the scenario, in lower case; runs are named after it.
        label: name in tables that compare several; the method's name if empty.
        description: a sentence for people.
        licence: licence of the trained models, for their cards; best an SPDX identifier.
        task: classes by step, as names or label values of the data set.
        setting: which images belong to a step.
        method: how a step is learned: ``star``, ``dkd``, ``mib``, ``plop``, ``barm``, ``finetune``,
            ``joint``, or a method of another installed package.
        losses: weights of loss terms, in place of the method's own, such as ``{kd: 0}``.
        method_options: the method's other options.
        memory_size: number of exemplars that are kept for later steps; 0 keeps none.
        protocol: ``paper`` keeps the faults that the published tables depend on, ``corrected``
            mends them.
        seed: seed of everything that is random.
        network: the network.
        training: how a step is trained.
        gate: what every step must reach.
        speed: how fast it is done.
        launch: where and on how much a step's job runs.
        data: where images and masks are.
        variants: named sets of overrides that are worth comparing, such as
            ``{DKD-M: {memory_size: 100}, joint: {method: joint}}``.
    """

    name: Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$", max_length=63)]
    label: str = ""
    description: str = ""
    licence: str = ""
    data: Data
    task: Annotated[tuple[Classes, ...], Field(strict=False, min_length=1)]
    setting: Setting = "overlap"
    method: str = "star"
    losses: dict[str, Weight] = {}
    method_options: dict[str, Any] = {}
    memory_size: Annotated[int, Field(ge=0, le=10_000_000)] = 0
    protocol: ProtocolName = "corrected"
    seed: Seed = 1
    network: Network = Network()
    training: Training
    gate: Gate = Gate()
    speed: Speed = Speed()
    launch: Launch = Launch()
    variants: dict[str, dict[str, Any]] = {}

    def override(self, assignments: Mapping[str, Any]) -> "Scenario":
        """This scenario with other values.

        Args:
            assignments: value by dotted field name, e.g. ``{"training.lr.first": 0.01}``.

        Raises:
            UserError: an unknown field or a bad value.
        """
        document = self.model_dump()
        for key, value in assignments.items():
            _assign(document, key.split("."), value, key)
        return parse(document, source="")

    def variant(self, name: str) -> "Scenario":
        """The named variant, itself without variants."""
        if name not in self.variants:
            raise UserError(
                f"variant {name!r}: scenario {self.name} has {', '.join(self.variants) or 'none'}"
            )
        return self.override({"label": name, **self.variants[name], "variants": {}})


def parse(document: object, source: str) -> Scenario:
    """The scenario that a YAML or JSON document describes.

    Args:
        document: parsed YAML.
        source: where it is from, for messages; empty where the field says enough.

    Raises:
        UserError: one line naming the first bad field and its value.
    """
    return parse_part(Scenario, document, source)


_OPEN = (["losses"], ["method_options"], ["variants"], ["training", "rates"])
"""Fields whose own fields have any name."""


def _assign(document: dict[str, Any], path: list[str], value: Any, key: str) -> None:
    at = document
    for part in path[:-1]:
        at = at.get(part)  # type: ignore[assignment]
        if not isinstance(at, dict):
            raise UserError(one_line(f"{key}: no such field"))
    open_mapping = path[:-1] in _OPEN
    if path[-1] not in at and not open_mapping:
        raise UserError(one_line(f"{key}: no such field; there are {', '.join(at)}"))
    inner = at.get(path[-1])
    if isinstance(inner, dict) and inner and not isinstance(value, dict):
        raise UserError(f"{key}: set its fields: {', '.join(f'{key}.{name}' for name in inner)}")
    at[path[-1]] = value
