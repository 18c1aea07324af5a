"""YAML as people write it, and as this program does: 1.2's plain values, and nothing guessed.

PyYAML's own loaders follow YAML 1.1, where ``on`` is true, ``12:30`` is 750, ``010`` is 8 and the
last of two equal keys wins. Here a word is a word: only ``true``, ``false``, ``null`` and numbers
written as numbers are anything else, as in YAML 1.2's core schema. What has two readings or none
is refused with its line: keys that stand twice, tags, anchors and aliases, several documents.
"""

import json
import re
import unicodedata
from collections.abc import Iterator
from typing import Any

import yaml

from dkd.errors import UserError, one_line

MAX_DEPTH = 32
"""Lists and mappings in one another."""

MAX_DIGITS = 300
"""Of a number; a float64 has 309 before its point."""

_WORDS = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
# YAML 1.2.2, section 10.3.2. An integer with a leading 0 is left out, and so is text: it is octal
# to some programs and decimal to others.
_INTEGER = re.compile(r"[-+]?(0|[1-9][0-9]*)")
_HEXADECIMAL = re.compile(r"0x[0-9a-fA-F]+")
_OCTAL = re.compile(r"0o[0-7]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_WHOLE = re.compile(r"[-+]?[0-9]+")
_INFINITE = re.compile(r"([-+]?)\.(inf|Inf|INF)")
_NAN = (".nan", ".NaN", ".NAN")


def load(text: str | bytes, source: str) -> Any:
    """The document that a text holds: None, bool, int, float, str, list and dict.

    Keys of mappings are text or integers. Text without a document is None.

    Args:
        text: YAML, UTF-8 where it is bytes.
        source: where it is from, for messages.

    Raises:
        UserError: one line with the number of the line in the text.
    """
    try:
        content = text if isinstance(text, str) else text.decode("utf-8-sig")
        return _Reader(content, source).document()
    except UnicodeDecodeError as error:
        raise UserError(f"{source}: not YAML: not UTF-8 at byte {error.start}") from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f"line {mark.line + 1}: " if mark else ""
        told = ", ".join(filter(None, (error.context, error.problem)))
        raise UserError(one_line(f"{source}: not YAML: {line}{told}")) from None
    except yaml.YAMLError as error:
        told = " ".join(str(error).split())
        raise UserError(one_line(f"{source}: not YAML: {told}")) from None


def dump(document: object) -> str:
    """A document as text that :func:`load`, and any reader of YAML 1.1, reads as it was."""
    text: str = yaml.dump(
        document, Dumper=_Dumper, sort_keys=False, default_flow_style=None, width=100
    )
    return text


def quoted(value: object) -> str:
    """A value as text is written where it could be taken for something else."""
    if isinstance(value, bool) or value is None:
        return f'"{json.dumps(value)}"'
    return json.dumps(value if isinstance(value, str) else str(value), ensure_ascii=False)


class _Reader:
    """Makes values of the parser's events."""

    def __init__(self, text: str, source: str) -> None:
        self._source = source
        self._events: Iterator[yaml.Event] = yaml.parse(text, Loader=yaml.SafeLoader)

    def document(self) -> Any:
        next(self._events)  # the stream's start
        event = next(self._events)
        if isinstance(event, yaml.StreamEndEvent):
            return None
        value = self._value(next(self._events), 0)
        next(self._events)  # the document's end
        event = next(self._events)
        if not isinstance(event, yaml.StreamEndEvent):
            raise self._error(event, "a second document (---) begins; write one a file")
        return value

    def _value(self, event: yaml.Event, depth: int) -> Any:
        if isinstance(event, yaml.AliasEvent):
            raise self._error(event, f"aliases (*{event.anchor}) are not read; write it out")
        assert isinstance(event, yaml.NodeEvent)
        if event.anchor is not None:
            raise self._error(event, f"anchors (&{event.anchor}) are not read; leave it out")
        if event.tag is not None:  # type: ignore[attr-defined]
            raise self._error(event, f"tags ({event.tag}) are not read; leave it out")  # type: ignore[attr-defined]
        if isinstance(event, yaml.ScalarEvent):
            return self._scalar(event)
        if depth == MAX_DEPTH:
            raise self._error(event, f"more than {MAX_DEPTH} lists and mappings in one another")
        if isinstance(event, yaml.SequenceStartEvent):
            return list(self._items(depth))
        return self._mapping(depth)

    def _items(self, depth: int) -> Iterator[Any]:
        while not isinstance(event := next(self._events), yaml.SequenceEndEvent):
            yield self._value(event, depth + 1)

    def _mapping(self, depth: int) -> dict[str | int, Any]:
        made: dict[str | int, Any] = {}
        lines: dict[str | int, int] = {}
        while not isinstance(event := next(self._events), yaml.MappingEndEvent):
            key = self._value(event, depth + 1)
            if isinstance(key, list | dict):
                raise self._error(event, "a key is a word, not a list or mapping")
            if not isinstance(key, str | int) or isinstance(key, bool):
                written = event.value or "null"  # type: ignore[attr-defined]
                raise self._error(
                    event, f"the key {written} is no word; as text it is {quoted(written)}"
                )
            same = unicodedata.normalize("NFC", key) if isinstance(key, str) else key
            if same in lines:
                raise self._error(
                    event, f"{key} appears twice, first in line {lines[same]}; keep one"
                )
            lines[same] = _line(event)
            made[key] = self._value(next(self._events), depth + 1)
        return made

    def _scalar(self, event: yaml.ScalarEvent) -> Any:
        text = event.value
        if any(unicodedata.category(character) == "Cs" for character in text):
            raise self._error(event, f"{text!a} is not text that UTF-8 can encode")
        if event.style is not None:  # in quotes, or a block
            return text
        if len(text) > MAX_DIGITS and not isinstance(plain(text[:MAX_DIGITS]), str):
            raise self._error(event, f"a number of more than {MAX_DIGITS} digits")
        return plain(text)

    def _error(self, event: yaml.Event, message: str) -> UserError:
        return UserError(one_line(f"{self._source}: line {_line(event)}: {message}"))


def plain(text: str) -> Any:
    """The value of text that stands there without quotes."""
    if text in _WORDS:
        return _WORDS[text]
    if _INTEGER.fullmatch(text):
        return int(text)
    if _HEXADECIMAL.fullmatch(text):
        return int(text, 16)
    if _OCTAL.fullmatch(text):
        return int(text, 8)
    if _FLOAT.fullmatch(text) and not _WHOLE.fullmatch(text):
        return float(text)
    if match := _INFINITE.fullmatch(text):
        return float(f"{match[1]}inf")
    return float("nan") if text in _NAN else text


class _Dumper(yaml.SafeDumper):
    """Writes what :func:`load` reads: no anchors, and in quotes what it takes for no text."""

    def ignore_aliases(self, _data: object) -> bool:
        return True

    def represent_text(self, text: str) -> yaml.ScalarNode:
        style = None if len(text) <= MAX_DIGITS and isinstance(plain(text), str) else "'"
        return self.represent_scalar("tag:yaml.org,2002:str", text, style)


_Dumper.add_representer(str, _Dumper.represent_text)


def _line(event: yaml.Event) -> int:
    assert event.start_mark is not None, "the parser marks every event"
    return int(event.start_mark.line) + 1
