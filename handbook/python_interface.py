"""The Python interface: the public names of ``dkd``, and what they give."""

import inspect
from collections.abc import Iterator
from typing import Any

import dkd
from dkd.evaluation.segmenter import Segmentation, Segmenter
from handbook import prose

GIVEN = (Segmenter, Segmentation)
"""Classes that a public function gives, in the order in which they are shown."""

HEADS = {"Args": "Argument", "Attributes": "Attribute", "Raises": "Raises"}


def documented() -> Iterator[tuple[str, Any]]:
    """Every public name with its object, and the public members of what they give."""
    for name in dkd.__all__:
        if name != "__version__":
            yield f"dkd.{name}", getattr(dkd, name)
    for given in GIVEN:
        yield given.__name__, given
        for name, member in vars(given).items():
            if not name.startswith("_") and (inspect.isroutine(member) or _method(member)):
                yield f"{given.__name__}.{name}", getattr(given, name)
            elif isinstance(member, property):
                yield f"{given.__name__}.{name}", member.fget


def _method(member: object) -> bool:
    return isinstance(member, classmethod | staticmethod)


def page() -> str:
    """A section for each."""
    return "\n\n".join(section(name, each) for name, each in documented())


def section(name: str, each: Any) -> str:
    """A function, class or property as Markdown."""
    text, parts = prose.sections(each)
    shown = [f"{'###' if '.' in name.removeprefix('dkd.') else '##'} {name}"]
    if inspect.isroutine(each) and "." in name:
        shown.append(f"```python\n{signature(name, each)}\n```")
    shown.append(prose.markdown(text))
    for title, entries in parts.items():
        if title == "Args" and inspect.isclass(each):
            continue  # nobody makes one: it is given
        if set(entries) == {""}:
            shown.append(f"**{title}:** {prose.sentence(entries[''])}")
        else:
            rows = [[f"`{entry}`", prose.sentence(told)] for entry, told in entries.items()]
            shown.append(prose.table([HEADS[title], "Meaning"], rows))
    return "\n\n".join(filter(None, shown))


def signature(name: str, function: Any) -> str:
    """How it is called, with types."""
    given = inspect.signature(function)
    parameters = [p for p in given.parameters.values() if p.name != "self"]
    return f"{name}{given.replace(parameters=parameters)}".replace("'", "")
