"""Docstrings as Markdown."""

import inspect
import re
from collections.abc import Iterable
from itertools import pairwise


def markdown(text: str) -> str:
    """Markdown for the reStructuredText of docstrings: literals and references."""
    text = re.sub(r":[a-z]+:`~?([^`]+)`", r"`\1`", text)
    return re.sub(r"``(.+?)``", r"`\1`", text, flags=re.S)


def sentence(text: str) -> str:
    """One line that begins with a capital letter and ends with a full stop."""
    line = " ".join(markdown(text).split())
    if line and line[0].islower() and not line.startswith("`"):
        line = line[0].upper() + line[1:]
    return line if not line or line.endswith((".", ":")) else f"{line}."


def sections(documented: object) -> tuple[str, dict[str, dict[str, str]]]:
    """The text of a docstring, and its sections: ``Args``, ``Attributes``, ``Raises``, ...

    Returns:
        The text before the first section; by section, the text by name. A section without names,
        such as ``Returns``, has its text under the empty name.
    """
    lines = (inspect.getdoc(documented) or "").splitlines()
    heading = re.compile(r"(Args|Attributes|Returns|Raises|Yields):$")
    starts = [n for n, line in enumerate(lines) if heading.match(line)]
    found: dict[str, dict[str, str]] = {}
    for start, end in pairwise([*starts, len(lines)]):
        entries: dict[str, str] = {}
        name = ""
        for line in lines[start + 1 : end]:
            entry = re.match(r"    (\w+): (.*)", line)
            if entry:
                name = entry[1]
            entries[name] = f"{entries.get(name, '')} {entry[2] if entry else line.strip()}".strip()
        found[lines[start].removesuffix(":")] = entries
    return "\n".join(lines[: starts[0]] if starts else lines).strip(), found


def attributes(documented: type) -> dict[str, str]:
    """What a class and its bases say of their attributes, by name."""
    found: dict[str, str] = {}
    for each in reversed(documented.__mro__):
        if "Attributes:" in (each.__doc__ or ""):
            found |= sections(each)[1]["Attributes"]
    return found


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A Markdown table; cells are one line each."""
    head = list(head)
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(map(_cell, line))} |" for line in lines)


def _cell(text: str) -> str:
    line = " ".join(text.split())
    return re.sub(r"(`[^`]*`)|\|", lambda found: found[1] or "\\|", line)  # not within code
