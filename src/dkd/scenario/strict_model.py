"""Base of a scenario's parts, and what is said of a document that does not fit one."""

from typing import Annotated, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from dkd.errors import UserError, one_line
from dkd.scenario import strict_yaml


class StrictModel(BaseModel):
    """Base of every part: unknown fields are errors, and so are values of another type than the
    field's, which are never converted (but for whole numbers where any number goes), and numbers
    that are not finite. Values do not change.
    """

    model_config = ConfigDict(
        extra="forbid", frozen=True, validate_default=True, strict=True, allow_inf_nan=False
    )


M = TypeVar("M", bound=StrictModel)

MAX_SEED = 2**53 - 1
"""The largest seed: whole numbers up to it survive as JSON's numbers, which forms are sent as."""

Seed = Annotated[int, Field(ge=0, le=MAX_SEED)]
Weight = Annotated[float, Field(ge=0, le=1e30)]
"""Far from where float32 ends; what diverges below that, training tells."""

NUMBER, WORD = "a number", "a word"
"""Tags of a field that takes either; no message names them as if they were fields."""


def parse_part(part: type[M], document: object, source: str, within: str = "") -> M:
    """The part of a scenario that a YAML or JSON document describes.

    Args:
        part: which one; the whole scenario is one, too.
        document: parsed YAML.
        source: where it is from, for messages; empty where the field says enough.
        within: of which field of the scenario the document is the value.

    Raises:
        UserError: one line naming the first bad field and its value.
    """
    try:
        return part.model_validate(document)
    except ValidationError as error:
        first, *others = error.errors(include_url=False)
        path = (str(name) for name in first["loc"] if name not in (NUMBER, WORD))
        where = ".".join(filter(None, [within, *path]))
        message = first["msg"].removeprefix("Value error, ")
        given = first["input"]
        if first["type"] != "value_error" and isinstance(given, str | int | float | None):
            if (told := shown(given)) not in message:
                message += f", not {told}"
            message += _hint(first["type"], given)
        if first["type"] == "extra_forbidden":
            message = "no such field" + ("; in YAML a space follows the colon" * (":" in where))
        more = f" (and {len(others)} more)" if others else ""
        line = ": ".join(filter(None, [source, where, message])) + more
        raise UserError(one_line(line)) from None


def _hint(kind: str, given: str | float | None) -> str:
    """What to do about a value of another type, by pydantic's kind of error."""
    if kind in ("int_type", "float_type") and isinstance(given, str):
        number = isinstance(strict_yaml.plain(given), int | float)
        return _UNQUOTED if number else ""
    return _HINTS.get((kind, type(given)), "").format(quoted=strict_yaml.quoted(given))


_UNQUOTED = "; write it as a number, without quotes"
_QUOTED = "; as text it is written {quoted}"
_HINTS: dict[tuple[str, type], str] = {
    ("bool_type", str): "; write true or false",
    **{("string_type", kind): _QUOTED for kind in (bool, int, float)},
    ("string_type", type(None)): '; empty text is written ""',
}


def shown(value: object, most: int = 80) -> str:
    """A value as a person wrote it, cut where it is long."""
    words: dict[object, str] = {None: "null", True: "true", False: "false"}
    text = words[value] if value is None or isinstance(value, bool) else repr(value)
    return text if len(text) <= most else text[: most - 1] + "…"
