"""What people write is what is read: YAML 1.2's plain values, and no guesses."""

import math
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from dkd.errors import UserError
from dkd.scenario import strict_yaml


def load(text: str | bytes) -> Any:
    return strict_yaml.load(text, "f.yaml")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        # words to YAML 1.2 that YAML 1.1 takes for something else
        *(
            (word, word)
            for word in ("on", "Off", "yes", "NO", "y", "12:30", "2020-01-01", "<<", "=")
        ),
        *(
            (word, word)
            for word in ("010", "-007", "1_000", "0b11", "1__0.5", "nan", "inf", "1e", "x")
        ),
        # the core schema's others, section 10.3.2
        *((word, None) for word in ("", "~", "null", "Null", "NULL")),
        *((word, True) for word in ("true", "True", "TRUE")),
        *((word, False) for word in ("false", "False", "FALSE")),
        *(("0", 0), ("-12", -12), ("+3", 3), ("0x1F", 31), ("0o17", 15)),
        *(("1.", 1.0), (".5", 0.5), ("-1.5e3", -1500.0), ("1e-3", 0.001), ("00.5", 0.5)),
        *((".inf", math.inf), ("-.INF", -math.inf)),
        # in quotes or a block everything is text
        *(("'on'", "on"), ('"12"', "12"), ("'true'", "true"), ("''", ""), ("|\n  12", "12")),
        ("[dog, on, 3]", ["dog", "on", 3]),
        ("{1: a, b: [c, {d: ~}]}", {1: "a", "b": ["c", {"d": None}]}),
        ("# nothing", None),
        ("---\na: 1\n...\n", {"a": 1}),
    ],
)
def test_values(text: str, value: object) -> None:
    found = load(text)
    assert found == value
    assert type(found) is type(value)


def test_what_is_no_number() -> None:
    assert math.isnan(load(".nan"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: {c: 1, d: 2, c: 3}", "line 2: c appears twice, first in line 2; keep one"),
        ("1: a\n2: b\n1: c", "line 3: 1 appears twice, first in line 1; keep one"),
        ("caf\u00e9: 1\ncafe\u0301: 2", "line 2: cafe\u0301 appears twice, first in line 1"),
        ("a: 1\ntrue: 2", 'line 2: the key true is no word; as text it is "true"'),
        ("1.5: 2", 'line 1: the key 1.5 is no word; as text it is "1.5"'),
        ("? ~\n: 2", 'line 1: the key ~ is no word; as text it is "~"'),
        ("[a]: 2", "line 1: a key is a word, not a list or mapping"),
        ("a: &x 1\nb: *x", "line 1: anchors (&x) are not read"),
        ("a: 1\nb: *x", "line 2: aliases (*x) are not read"),
        ("!!python/object/apply:os.getcwd []", "line 1: tags (tag:yaml.org,2002:python/object"),
        ("a: !!float 3", "line 1: tags (tag:yaml.org,2002:float) are not read"),
        ("a: 1\n---\nb: 2", "line 2: a second document (---) begins"),
        ("[" * 5000, "line 1: more than 32 lists and mappings in one another"),
        ("a: " + "9" * 5000, "line 1: a number of more than 300 digits"),
        ('"\\ud800"', "line 1: '\\ud800' is not text that UTF-8 can encode"),
        ("a: [b", "not YAML: line 1: "),
        ("a: b: c", "not YAML: line 1: mapping values are not allowed here"),
        ("\x00", "not YAML: unacceptable character"),
        (b"a: \xff", "not YAML: not UTF-8 at byte 3"),
    ],
)
def test_refusals_are_one_line_with_its_number(text: str | bytes, message: str) -> None:
    with pytest.raises(UserError) as raised:
        load(text)
    assert str(raised.value).startswith(f"f.yaml: {message}")
    assert "\n" not in str(raised.value)


def test_a_byte_order_mark_is_none_of_the_text() -> None:
    assert load(b"\xef\xbb\xbfa: 1") == {"a": 1}


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**20), 10**20)
    | st.floats(allow_nan=False)
    | st.text(st.characters(exclude_categories=["Cs", "Cc"])),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text("abcd\u00e9 "), inner, max_size=3)
    ),
    max_leaves=10,
)


@given(VALUES)
def test_what_is_written_is_read_as_it_was_here_and_by_pyyaml(value: object) -> None:
    text = strict_yaml.dump(value)
    assert load(text) == yaml.safe_load(text) == value


@given(st.text("[]{}:,-?&*!|>'\"%@` \n\tab01.~#<=\\"))
def test_any_text_is_read_or_refused_in_one_line(text: str) -> None:
    try:
        load(text)
    except UserError as error:
        message = str(error)
    else:
        message = ""
    assert "\n" not in message
