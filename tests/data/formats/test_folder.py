from pathlib import Path

import pytest
from PIL import Image

from dkd.data import formats
from dkd.errors import UserError
from dkd.scenario.schema import Data


def refuse(root: Path, *words: str, **fields: str) -> None:
    """Reading the layout must fail with one line that holds these words."""
    with pytest.raises(UserError) as caught:
        formats.read(Data(**{"format": "folder", "root": str(root), **fields}))  # type: ignore[arg-type]
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message


def test_empty_split(folder: Path) -> None:
    for path in (folder / "images/train").iterdir():
        path.unlink()
    refuse(folder, "images/train", "no image")


def test_two_images_for_a_mask(folder: Path) -> None:
    Image.new("RGB", (20, 20)).save(folder / "images/train/0.jpg")
    refuse(folder, "images/train", "0 stands there twice")


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("", "no class"),
        ("- cat", "no class"),
        ("1: [", "not YAML"),
        ("0: background", "0 is no class"),
        ("255: void", "255 is no class"),
        ("one: cat", "'one' is no class"),
        ("true: cat", 'line 1: the key true is no word; as text it is "true"'),
        ("1: true", 'class 1: True is no text; a class of that name is written "true"'),
        ("1: {name: 12, colour: [1, 2, 3]}", "class 1: 12 is no text; a class of that name is"),
        ("1: {name: cat, colour: [true, 2, 3]}", "class 1: write"),
        ("1: cat\n2: dog\n1: cow", "line 3: 1 stands there twice, first in line 1; keep one"),
        ("1: cat\n7: Cat", "two classes are called 'Cat' and 'cat', which look alike; names are"),
        ("1: caf\u00e9\n7: cafe\u0301", "two classes are called 'caf\u00e9'; names are unique"),
        ("1: traffic light\n7: traffic  light", "which look alike"),
        ("1: background", "class 1: class 'background': background is label value 0"),
        ("1: '  '", "class 1: a class's name is empty"),
        ('1: "a\\nb"', "class 1: class 'a\\nb': a name is one line of characters that can be seen"),
        (f"1: {'x' * 101}", "a name has at most 100 characters"),
        ("1: cat\n7: cat", "two classes are called 'cat'"),
        ("1: 5", "class 1"),
        ("1: ''", "class 1"),
        ("1: {name: cat, colour: [1, 2]}", "class 1"),
        ("1: {name: cat, colour: [1, 2, 256]}", "class 1"),
    ],
)
def test_classes_file(folder: Path, text: str, word: str) -> None:
    (folder / "classes.yaml").write_text(text)
    refuse(folder, "classes.yaml", word)


def test_classes_file_missing(folder: Path) -> None:
    (folder / "classes.yaml").unlink()
    refuse(folder, "classes.yaml", "missing")


def test_names_are_what_stands_there(folder: Path) -> None:
    """Words that YAML 1.1 takes for truth values, times and octal numbers."""
    text = "1: lamp\n2: on\n3: no\n4: 12:30\n5: 007\n6: 'true'\n7: windowpane, window\n8: \u732b"
    (folder / "classes.yaml").write_text(text, encoding="utf-8")
    read = formats.read(Data(format="folder", root=str(folder))).classes
    assert list(read.values()) == [
        *("lamp", "on", "no", "12:30", "007", "true", "windowpane, window", "\u732b"),
    ]


def test_names_that_are_no_utf8(folder: Path) -> None:
    for kind in ("images", "masks"):
        (folder / kind / "train/0.png").rename(
            folder / kind / "train" / b"caf\xe9.png".decode(errors="surrogateescape")
        )
    refuse(folder, "images/train", r"caf\udce9.png' is no UTF-8; give the file another name")
