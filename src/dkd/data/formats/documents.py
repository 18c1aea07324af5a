"""JSON that labelling tools write: read, and checked as far as it is used."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dkd.errors import UserError


def load(file: Path) -> Any:
    """The document in a file.

    Raises:
        UserError: the file is missing or is no JSON, e.g. because it was cut off.
    """
    try:
        return json.loads(file.read_bytes())
    except FileNotFoundError:
        raise UserError(f"{file}: missing; export the data set again") from None
    except OSError as error:
        raise UserError(f"{file}: cannot be read: {error.strerror}") from None
    except json.JSONDecodeError as error:
        raise UserError(
            f"{file}: line {error.lineno}, column {error.colno}: not JSON ({error.msg}); it is cut "
            "off or damaged: export it again"
        ) from None
    except (ValueError, RecursionError) as error:  # no UTF-8, a number of 5,000 digits
        raise UserError(f"{file}: not JSON ({error}); export it again") from None


def table(value: Any, place: str) -> dict[str, Any]:
    """The value, if it is an object.

    Args:
        value: of a document.
        place: of the value, for messages.

    Raises:
        UserError: it is something else.
    """
    if not isinstance(value, dict):
        raise UserError(f"{place}: {told(value)} instead of an object; export it again")
    return value


def rows(document: Mapping[str, Any], key: str, place: str) -> list[dict[str, Any]]:
    """The objects of a list.

    Raises:
        UserError: it is missing, no list, or holds something else.
    """
    value = document.get(key)
    if not isinstance(value, list):
        raise UserError(f"{place}: no list {key!r}; export it again")
    return [table(row, f"{place}: {key}[{number}]") for number, row in enumerate(value)]


def whole(row: Mapping[str, Any], key: str, place: str) -> int:
    """A field that is a whole number.

    Raises:
        UserError: it is missing or something else.
    """
    value = row.get(key)
    if type(value) is not int:
        raise UserError(f"{place}: {key} is {told(value)} instead of a whole number")
    return value


def text(row: Mapping[str, Any], key: str, place: str) -> str:
    """Likewise a text that is not empty."""
    value = row.get(key)
    if not isinstance(value, str) or not value:
        raise UserError(f"{place}: {key} is {told(value)} instead of a text")
    return value


def told(value: Any) -> str:
    """A value as a message shows it."""
    if value is None:
        return "missing"
    shown = repr(value)
    return shown if len(shown) <= 40 else shown[:37] + "..."
