from pathlib import Path

import pytest

from dkd.errors import UserError
from dkd.scenario.parsing import dump, load, parse_names
from dkd.scenario.schema import parse


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("sheep", ("sheep",)),
        ("sheep, traffic light", ("sheep", "traffic light")),
        ('["traffic light, red", sheep]', ("traffic light, red", "sheep")),
        ("on,true,7", ("on", "true", "7")),  # of text alone, everything is a name
        ("cafe\u0301", ("caf\u00e9",)),
    ],
)
def test_names_on_a_command_line(text: str, names: tuple[str, ...]) -> None:
    assert parse_names(text, "--classes") == names


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "empty names"),
        ("a,,b", "empty names"),
        ("[a, ' ']", "empty names"),
        ("[a, 7]", '7 is not a name; write "7"'),
        ("[a", "not YAML: "),
        ("background", "class 'background'"),
    ],
)
def test_what_is_no_name(text: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        parse_names(text, "--classes")
    assert str(caught.value).startswith("--classes")
    assert message in str(caught.value)


def test_words_survive_a_file(tmp_path: Path) -> None:
    """Names that other programs, or this one, would take for something else."""
    words = ["on", "true", "12:30", "7", "null", "1e3", "a: b", "\u732b", "windowpane, window"]
    document = {
        "name": "words",
        "label": "no",
        "data": {"format": "folder", "root": "1.10"},
        "task": [words, [7]],
        "training": {
            "epochs": {"first": 1, "later": 1},
            "batch_size": 1,
            "lr": {"first": 1, "later": 1e-3},
        },
        "variants": {"on": {"label": "yes", "seed": 3}},
    }
    made = parse(document, "test")
    file = tmp_path / "s.yaml"
    file.write_text(dump(made), encoding="utf-8")
    assert load(file) == made
    assert made.task == (tuple(words), (7,))
