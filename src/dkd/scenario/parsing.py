"""Scenarios as text: YAML files, assignments on a command line, and back."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from dkd.errors import UserError
from dkd.scenario.schema import Scenario, parse


def load(path: Path) -> Scenario:
    """Reads a scenario from a YAML file, checking its variants too.

    Raises:
        UserError: the file is missing, is not YAML, or has a bad field.
    """
    try:
        document = yaml.safe_load(path.read_text())
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}; name a scenario file") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not YAML: {' '.join(str(error).split())}") from None
    scenario = parse(document, source=str(path))
    for name in scenario.variants:
        scenario.variant(name)
    return scenario


def parse_assignments(items: Iterable[str]) -> dict[str, Any]:
    """``["training.epochs.first=3"]`` as a mapping; values are YAML.

    Raises:
        UserError: an item without ``=``, or with a value that is not YAML.
    """
    assignments: dict[str, Any] = {}
    for item in items:
        key, equals, text = item.partition("=")
        if not equals or not key:
            raise UserError(f"--set {item}: write FIELD=VALUE, e.g. --set training.crop=128")
        try:
            assignments[key] = yaml.safe_load(text)
        except yaml.YAMLError:
            raise UserError(f"--set {key}: the value {text!r} is not YAML") from None
    return assignments


def dump(scenario: Scenario) -> str:
    """The scenario as YAML, in the schema's order, without what has its default value."""
    document = scenario.model_dump(mode="json", exclude_defaults=True)
    return yaml.safe_dump(document, sort_keys=False, default_flow_style=None, width=100)
