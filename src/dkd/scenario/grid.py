"""Every combination of some fields' values, as scenarios to compare.

dkd run SCENARIO --grid method=dkd,star --grid training.lr.later=1e-4,2e-4
"""

from collections.abc import Iterable, Mapping, Sequence
from itertools import product
from typing import Any

from dkd.errors import UserError, one_line
from dkd.scenario.parsing import parse_value, split_items
from dkd.scenario.schema import Scenario

OPTION = "--grid"
MOST = 1000  # combinations
_NOT_HERE = {
    "seed": "use --seeds",
    "variants": "use --variant",
    "task": "a report compares runs of one task",
    "label": "the values are the label",
    "name": "the values are the label",
}


def parse_grid(items: Iterable[str]) -> dict[str, list[Any]]:
    """What ``--grid`` says: ``["method=dkd,star"]`` as a mapping of fields to values.

    Values are YAML with commas between them.

    Raises:
        UserError: an item that is not of this form, a value that appears twice, or a field
            that has an option of its own.
    """
    found: dict[str, list[Any]] = {}
    for field, text in split_items(items, OPTION, "training.lr.later=1e-4,2e-4").items():
        source = f"{OPTION} {field}"
        values = parse_value(f"[{text}]", source)
        if not isinstance(values, list) or not values:
            raise UserError(one_line(f"{source}={text}: write values with commas, e.g. 1e-4,2e-4"))
        if any(value in values[:place] for place, value in enumerate(values)):
            raise UserError(one_line(f"{source}={text}: a value appears twice; give it once"))
        if field in _NOT_HERE:
            raise UserError(f"{source}: {_NOT_HERE[field]}")
        found[field] = values
    return found


def combinations(
    scenario: Scenario, grid: Mapping[str, Sequence[Any]]
) -> list[tuple[str, Scenario]]:
    """The scenario with every combination of values, each with words that say which.

    Args:
        scenario: any; the words stand in the label, behind its own.
        grid: values by dotted field name; the last field varies fastest.

    Returns:
        Words and scenario; the scenario itself without any where the grid is empty.

    Raises:
        UserError: an unknown field, a bad value, or too many combinations.
    """
    combined = list(product(*grid.values()))
    if len(combined) > MOST:
        raise UserError(f"{OPTION}: {len(combined)} combinations; give at most {MOST}")
    found = []
    for values in combined:
        chosen = dict(zip(grid, values, strict=True))
        told = ", ".join(_told(field, value) for field, value in chosen.items())
        label = ", ".join(filter(None, [scenario.label, told]))
        found.append((told, scenario.override({**chosen, "label": label})))
    return found


def _told(field: str, value: Any) -> str:
    """A method is known by its name; a value of anything else is not."""
    text = str(value).lower() if isinstance(value, bool) or value is None else str(value)
    return text if field == "method" else f"{field}={text}"
