"""Every field of the pipelines' forms."""

from collections.abc import Sequence

from dkd.scenario import form
from handbook import prose
from handbook.scenario_fields import fields

KINDS = {str: "text", int: "whole number", float: "number", list: "JSON list", dict: "JSON mapping"}


def incremental() -> str:
    """The form of a scenario's pipeline."""
    return _table(form.INCREMENTAL)


def extension() -> str:
    """The form of the pipeline that adds classes."""
    return _table(form.EXTENSION)


def _table(given: Sequence[form.Field]) -> str:
    described = {each.path: each.description for each in fields()}
    head = ["Field", "Type", "Sets", "Meaning"]
    rows = [
        [
            f"`{field.name}`",
            kind(field),
            f"[`{field.path}`](scenario.md#{field.path})" if field.path else "",
            prose.sentence(field.meaning) or described.get(field.path, ""),
        ]
        for field in sorted(given, key=lambda field: field.name)
    ]
    return prose.table(head, rows)


def kind(field: form.Field) -> str:
    """A field's type in words."""
    if field.choices:
        return "one of " + ", ".join(f"`{choice}`" for choice in field.choices)
    return "a number, or empty" if field.number else KINDS[field.kind]
