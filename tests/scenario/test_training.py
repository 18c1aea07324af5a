"""How steps are trained: what is refused, and what a step is told."""

from typing import Any

import pytest
from fixtures.scenarios import DOCUMENT, changed

from dkd.errors import UserError
from dkd.scenario.schema import parse


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("training.crop", 8, "training.crop: "),
        ("training.batch_size", 0, "training.batch_size: "),
        ("training.epochs", {"first": 0, "later": 1}, "training.epochs.first: "),
        ("training.lr", {"first": 1}, "training.lr.later: "),
        ("training.precision", "fp8", "training.precision: "),
        (
            "training.pos_weight",
            {"later": "much"},
            "training.pos_weight.later: Input should be 'auto', not",
        ),
    ],
)
def test_a_bad_field_is_named_in_one_line(field: str, value: Any, message: str) -> None:
    with pytest.raises(UserError) as raised:
        parse(changed(field, value), "my.yaml")
    assert str(raised.value).startswith(f"my.yaml: {message}")
    assert "\n" not in str(raised.value)


def test_a_step_is_told_its_own_values() -> None:
    training = parse(changed("training.pos_weight", {"later": "auto"}), "x").training
    first, later = training.at(0), training.at(3)
    assert (first["epochs"], first["lr"], first["pos_weight"]) == (3, 0.01, 1)
    assert (later["epochs"], later["lr"], later["pos_weight"]) == (2, 0.001, "auto")


def test_what_changes_nothing_is_not_told() -> None:
    usual = parse(DOCUMENT, "x").training
    training = usual.model_copy(update={"rates": {"new_head": 3.0}, "memory_share": 0.5})
    assert training.at(0) == usual.at(0)
    assert training.at(1) == {**usual.at(1), "rates": {"new_head": 3.0}}
    assert training.at(1, memory=True) == {**training.at(1), "memory_share": 0.5}
