"""Errors that are told in one line."""

import pytest

from dkd.errors import NewerFormat, one_line, require_known_format


@pytest.mark.parametrize("found", [0, 1, 2, "9", None, [9]])
def test_known_formats_pass_and_what_is_none_is_the_readers(found: object) -> None:
    require_known_format(found, 2, "a.json")


def test_a_newer_format_is_refused() -> None:
    with pytest.raises(NewerFormat, match=r"^a\.json: has format 3, .* up to format 2"):
        require_known_format(3, 2, "a.json")


def test_a_message_is_one_line() -> None:
    assert one_line("a\nb\tü\x1b") == "a\\nb\\tü\\x1b"
