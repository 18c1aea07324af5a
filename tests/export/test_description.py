"""What an exported model says of itself, written and read again."""

import json

import pytest

from dkd.errors import NewerFormat, UserError
from dkd.export.description import Description, describe, from_json


def description() -> Description:
    return describe(
        [["cat", "dog"], ["sheep"]],
        gives="mask",
        dataset="voc",
        checkpoint="0" * 64,
        short_side=512,
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
        precision="fp32",
        stride=16,
    )


def test_what_is_written_is_read() -> None:
    made = description()
    assert from_json(made.to_json(), "a") == made
    assert made.class_names == ("background", "cat", "dog", "sheep")
    assert [each.step for each in made.classes] == [None, 0, 0, 1]
    assert made.colours[1] == (64, 0, 0)  # VOC's own for cat, 8


def test_a_file_of_a_newer_version_is_told() -> None:
    with pytest.raises(NewerFormat, match=r"^model\.onnx: has format 2, .*up to format 1"):
        from_json(json.dumps({"format": 2, "whatever": 1}), "model.onnx")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("format", 0),
        ("gives", "boxes"),
        ("classes", [{"value": 0, "name": "background", "step": None, "colour": [0, 0, 0]}]),
        ("classes", [{"value": n, "name": "a", "step": 0, "colour": [0, 0]} for n in (0, 1)]),
        ("classes", [{"value": n, "name": "a", "step": 0, "colour": [0, 0, 256]} for n in (0, 1)]),
        ("classes", [{"value": n, "name": "a", "step": 0, "colour": [0, 0, 0]} for n in (0, 2)]),
        ("classes", None),
        ("mean", [0.5]),
        ("std", [0.5]),
        ("short_side", "wide"),
        ("stride", None),
    ],
)
def test_what_was_not_written_here_is_refused(field: str, value: object) -> None:
    document = json.loads(description().to_json())
    document[field] = value
    for text in (json.dumps(document), "{", "[]", json.dumps({"format": 1})):
        with pytest.raises(UserError, match=r"^model\.onnx: what it says of itself was not"):
            from_json(text, "model.onnx")
