"""Documents that do not fit: nothing is converted, and one line says what is wrong."""

from typing import Any

import pytest
from fixtures.scenarios import DOCUMENT, changed

from dkd.errors import UserError
from dkd.scenario.schema import parse


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("seed", True, "seed: Input should be a valid integer, not true"),
        ("seed", 3.0, "seed: Input should be a valid integer, not 3.0"),
        ("seed", "3", "seed: Input should be a valid integer, not '3'; write it as a number"),
        ("data.pack", "yes", "data.pack: Input should be a valid boolean, not 'yes'; write true"),
        ("data.pack", 1, "data.pack: Input should be a valid boolean, not 1"),
        ("label", 12, 'label: Input should be a valid string, not 12; as text it is written "12"'),
        ("label", False, "label: Input should be a valid string, not false; as text it is written"),
        ("label", None, "label: Input should be a valid string, not null; empty text is written"),
        (
            "training.momentum",
            "0.9",
            "training.momentum: .*valid number, not '0.9'; write it",
        ),
        ("training.momentum", "inf", "training.momentum: .*a valid number, not 'inf'$"),
        (
            "training.momentum",
            False,
            "training.momentum: .*a valid number, not false",
        ),
        (
            "launch.node_selector",
            {"gpu": True},
            "launch.node_selector.gpu: .*a valid string",
        ),
        ("task", [["dog"], [True]], "task.1.0: a class is a name or a label value, not true; as a"),
        ("task", [["dog"], [1.5]], "task.1.0: a class is a name or a label value, not 1.5; as a"),
        ("task", [["dog"], ["cat", None]], 'task.1.1: .*; as a name it is written "null"'),
        ("task", [["dog"], [["cat"]]], "task.1.0: a class is a name or a label value; a task is"),
        ("task", [["dog"], [0]], r"task.1.0: label values of classes are 1\.\.65534, not 0"),
        (
            "task",
            [["dog"], [65535]],
            r"task.1.0: label values of classes are 1\.\.65534, not 65535",
        ),
        ("task", [["dog"], []], "task.1: .*at least 1 item"),
        ("task", [], "task: .*at least 1 item"),
        ("task", [["dog"], [" "]], "task.1.0: a class's name is empty"),
        ("task", [["Background"]], "task.0.0: class 'Background': background is label value 0"),
        ("task", "dog", "task: Input should be a valid tuple, not 'dog'"),
    ],
)
def test_types_are_not_converted(field: str, value: Any, message: str) -> None:
    with pytest.raises(UserError, match=rf"^x: {message}"):
        parse(changed(field, value), "x")


def test_a_field_that_is_not_there_is_no_such_field() -> None:
    """Also where a colon without a space made one of a field and its value."""
    with pytest.raises(UserError, match=r"^x: network\.widht: no such field$"):
        parse(changed("network.widht", 3), "x")
    says = r"^x: network\.backbone:resnet18: no such field; in YAML a space follows the colon$"
    with pytest.raises(UserError, match=says):
        parse(changed("network", {"backbone:resnet18": None}), "x")


def test_others_are_counted() -> None:
    with pytest.raises(UserError, match=r"\(and 1 more\)$"):
        parse({**DOCUMENT, "seed": -1, "memory_size": -1}, "x")
