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
        ("true: cat", "True is no class"),
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
