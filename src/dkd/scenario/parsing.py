"""Scenarios as text: YAML files, assignments on a command line, and back."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from dkd.errors import UserError, one_line
from dkd.scenario import strict_yaml
from dkd.scenario.names import class_name
from dkd.scenario.schema import Scenario, parse


def load(path: Path, data_root: str = "") -> Scenario:
    """Reads a scenario from a YAML file, checking its variants too.

    Args:
        path: the file.
        data_root: where the data set is, if the file does not say it.

    Raises:
        UserError: the file is missing, is not YAML, or has a bad field.
    """
    try:
        text = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}; name a scenario file") from None
    document = strict_yaml.load(text, str(path))
    if data_root and isinstance(document, dict) and isinstance(document.get("data"), dict):
        document["data"].setdefault("root", data_root)
    scenario = parse(document, source=str(path))
    for name in scenario.variants:
        scenario.variant(name)
    return scenario


def parse_assignments(items: Iterable[str]) -> dict[str, Any]:
    """What ``--set`` says: ``["training.epochs.first=3"]`` as a mapping; values are YAML.

    Raises:
        UserError: as :func:`split_items`, or a value that is not YAML.
    """
    texts = split_items(items, "--set", "training.crop=128")
    return {field: parse_value(text, f"--set {field}") for field, text in texts.items()}


def split_items(items: Iterable[str], option: str, example: str) -> dict[str, str]:
    """``["FIELD=TEXT"]`` as a mapping; the last of a field counts, as of any option.

    Args:
        items: as written on the command line.
        option: whose items they are, for messages.
        example: of an item, for messages.

    Raises:
        UserError: an item without ``=``.
    """
    texts: dict[str, str] = {}
    for item in items:
        field, equals, text = item.partition("=")
        if not equals or not field:
            told = f"{option} {item}: write FIELD=VALUE, e.g. {option} {example}"
            raise UserError(one_line(told))
        texts[field] = text
    return texts


def parse_value(text: str, source: str) -> Any:
    """A value that is written on a command line, as YAML.

    Raises:
        UserError: it is not YAML; its text is in the message.
    """
    try:
        return strict_yaml.load(text, source)
    except UserError as error:
        raise UserError(f"{error} (the value: {text!r})") from None


def parse_names(text: str, option: str) -> tuple[str, ...]:
    """Names of classes: with commas between them, or, where a name holds one, as a YAML list.

    Args:
        text: ``sheep,cow`` or ``["traffic light, red", cow]``.
        option: whose value it is, for messages.

    Raises:
        UserError: a list of something else, or no class's name (:mod:`dkd.scenario.names`).
    """
    listed = parse_value(text, option) if text.lstrip().startswith("[") else text.split(",")
    if not all(name.strip() for name in listed if isinstance(name, str)):
        raise UserError(one_line(f"{option} {text}: empty names; write NAME,NAME"))
    for name in listed:
        if not isinstance(name, str):
            raise UserError(f"{option}: {name!r} is not a name; write {strict_yaml.quoted(name)}")
    try:
        return tuple(class_name(name) for name in listed)
    except UserError as error:
        raise UserError(f"{option}: {error}") from None


def dump(scenario: Scenario) -> str:
    """The scenario as YAML, in the schema's order, without what has its default value."""
    document = scenario.model_dump(mode="json", exclude_defaults=True)
    return strict_yaml.dump(document)
