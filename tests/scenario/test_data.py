"""Where images and masks are: what is refused."""

from typing import Any

import pytest
from fixtures.scenarios import changed

from dkd.errors import UserError
from dkd.scenario.data import Data
from dkd.scenario.schema import parse
from dkd.scenario.strict_model import parse_part


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("data.root", "", "data: root: say where the data set is"),
        ("data.format", "tar", "data.format: "),
    ],
)
def test_a_bad_field_is_named_in_one_line(field: str, value: Any, message: str) -> None:
    with pytest.raises(UserError) as raised:
        parse(changed(field, value), "my.yaml")
    assert str(raised.value).startswith(f"my.yaml: {message}")
    assert "\n" not in str(raised.value)


def test_what_is_drawn_needs_no_root_and_has_settings_of_its_own() -> None:
    for kind, size in (("digits", 64), ("pictograms", 96)):
        assert parse_part(Data, {"format": kind}, "").made.size == size
    with pytest.raises(UserError, match="new_class"):
        parse_part(Data, {"format": "pictograms", "pictograms": {"new_class": "dog"}}, "")
