"""Every field of a scenario, from its schema."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from dkd.scenario.schema import Scenario
from handbook import prose
from handbook.changing_fields import changing_fields


@dataclass(frozen=True)
class ScenarioField:
    """A field that holds a value, not other fields.

    Attributes:
        path: dotted, as ``--set`` takes it.
        kind: type and bounds, in words.
        default: as YAML; empty where it must be given.
        description: a sentence.
    """

    path: str
    kind: str
    default: str
    description: str


def fields(model: type[BaseModel] = Scenario, prefix: str = "") -> Iterator[ScenarioField]:
    """The fields of a model and of its parts, in the schema's order."""
    schema = model.model_json_schema()
    described = prose.attributes(model)
    for name, info in model.model_fields.items():
        path = f"{prefix}{name}"
        inner = part(info)
        if inner is not None:
            yield from fields(inner, f"{path}.")
            continue
        yield ScenarioField(
            path,
            kind(schema["properties"][name], schema.get("$defs", {})),
            default(info),
            prose.sentence(described.get(name, "")),
        )


def part(info: FieldInfo) -> type[BaseModel] | None:
    """The model of a field that holds other fields."""
    annotation = info.annotation
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return None


def default(info: FieldInfo) -> str:
    """A field's default as a person writes it in YAML; empty where it is required."""
    if info.is_required():
        return ""
    text = yaml.safe_dump(info.default, default_flow_style=True, width=1000)
    return text.removesuffix("\n...\n").strip() if info.default != () else "[]"


def kind(schema: dict[str, Any], parts: dict[str, Any]) -> str:
    """Type and bounds of a value, in words.

    Args:
        schema: JSON schema of the value.
        parts: definitions that it refers to.
    """
    if "$ref" in schema:
        inner = parts[schema["$ref"].rpartition("/")[2]]
        return f"mapping of {', '.join(f'`{name}`' for name in inner['properties'])}"
    if choices := schema.get("anyOf") or schema.get("oneOf"):
        return " or ".join(dict.fromkeys(kind(each, parts) for each in choices))
    if "enum" in schema:
        return " ".join(["one of", ", ".join(f"`{each}`" for each in schema["enum"])])
    if "const" in schema:
        return f"`{schema['const']}`"
    type_ = schema.get("type")
    if type_ in ("integer", "number"):
        noun = {"integer": "whole number", "number": "number"}[type_]
        return " ".join(filter(None, [noun, _bounds(schema)]))
    if type_ == "array":
        if "prefixItems" in schema:
            each = kind(schema["prefixItems"][0], parts)
            return f"list of {len(schema['prefixItems'])}: {each}"
        least = "non-empty " if schema.get("minItems") == 1 else ""
        return f"{least}list of: {kind(schema['items'], parts)}"
    if type_ == "object":
        values = schema.get("additionalProperties", True)
        return f"mapping of {kind(values, parts)}" if isinstance(values, dict) else "mapping"
    if type_ == "string":
        most = f", at most {schema['maxLength']} characters" if "maxLength" in schema else ""
        like = f", like `{schema['pattern']}`" if "pattern" in schema else ""
        return f"text{most}{like}"
    return {"boolean": "true or false", "null": "null", None: "any value"}[type_]


def _bounds(schema: dict[str, Any]) -> str:
    lowest, above = schema.get("minimum"), schema.get("exclusiveMinimum")
    most, below = schema.get("maximum"), schema.get("exclusiveMaximum")
    if most is not None and most >= 1e30:
        most = None
    low = f"from {lowest:,}" if lowest is not None else f"above {above:,}" if above else ""
    if above == 0:
        low = "above 0"
    high = f"to {most:,}" if most is not None else f"below {below:,}" if below is not None else ""
    return " ".join(filter(None, [low, high]))


def page() -> str:
    """The fields by part, a table each."""
    changing = changing_fields()
    titles = {"": Scenario} | {
        f"{name}.": model
        for name, info in Scenario.model_fields.items()
        if (model := part(info)) is not None
    }
    tables = []
    for prefix, model in titles.items():
        rows = [
            [
                f"`{field.path}`{anchor(field.path)}",
                field.kind,
                f"`{field.default}`" if field.default else "required",
                "yes" if field.path in changing else "no",
                field.description,
            ]
            for field in fields()
            if (field.path.startswith(prefix) if prefix else "." not in field.path)
        ]
        title = f"## `{prefix.removesuffix('.')}`" if prefix else "## The scenario itself"
        text, _ = prose.sections(model)
        intro = prose.markdown(text) if prefix else ""
        head = ["Field", "Type and bounds", "Default", "Changes results", "Meaning"]
        tables += [title, intro, prose.table(head, rows)]
    return "\n\n".join(filter(None, tables))


def anchor(path: str) -> str:
    """A place that links can name: ``#training.lr.first``."""
    return f'<a id="{path}"></a>'
