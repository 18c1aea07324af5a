from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dkd.data import contents, formats, index, packed
from dkd.data.records import Record
from dkd.scenario.data import Data


def test_empty_split(folder: Path, refuse) -> None:
    for path in (folder / "images/train").iterdir():
        path.unlink()
    refuse(folder, "folder", "images/train", "no image")


def test_two_images_for_a_mask(folder: Path, refuse) -> None:
    Image.new("RGB", (20, 20)).save(folder / "images/train/0.jpg")
    refuse(folder, "folder", "images/train", "0 appears twice")


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("", "no class"),
        ("- cat", "no class"),
        ("1: [", "not YAML"),
        ("0: background", "0 is not a label value of a class"),
        ("255: void", "255 is not a label value"),
        ("65535: void", "65535 is not a label value"),
        ("one: cat", "'one' is not a label value"),
        ("true: cat", 'line 1: the key true is no word; as text it is "true"'),
        ("1: true", 'class 1: True is not text; a class of that name is written "true"'),
        ("1: {name: 12, colour: [1, 2, 3]}", "class 1: 12 is not text; a class of that name is"),
        ("1: {name: cat, colour: [true, 2, 3]}", "class 1: write"),
        ("1: cat\n2: dog\n1: cow", "line 3: 1 appears twice, first in line 1; keep one"),
        ("1: cat\n7: Cat", "two classes are called 'Cat' and 'cat', which look alike; names are"),
        ("1: caf\u00e9\n7: cafe\u0301", "two classes are called 'caf\u00e9'; names are unique"),
        ("1: traffic light\n7: traffic  light", "which look alike"),
        ("1: background", "class 1: class 'background': background is label value 0"),
        ("1: '  '", "class 1: a class's name is empty"),
        ('1: "a\\nb"', "class 1: class 'a\\nb': a name is one line of visible characters"),
        (f"1: {'x' * 101}", "a name has at most 100 characters"),
        ("1: cat\n7: cat", "two classes are called 'cat'"),
        ("1: 5", "class 1"),
        ("1: ''", "class 1"),
        ("1: {name: cat, colour: [1, 2]}", "class 1"),
        ("1: {name: cat, colour: [1, 2, 256]}", "class 1"),
    ],
)
def test_classes_file(folder: Path, text: str, word: str, refuse) -> None:
    (folder / "classes.yaml").write_text(text)
    refuse(folder, "folder", "classes.yaml", word)


def test_classes_file_missing(folder: Path, refuse) -> None:
    (folder / "classes.yaml").unlink()
    refuse(folder, "folder", "classes.yaml", "missing")


def test_names_are_what_stands_there(folder: Path) -> None:
    """Words that YAML 1.1 takes for truth values, times and octal numbers."""
    text = "1: lamp\n2: on\n3: no\n4: 12:30\n5: 007\n6: 'true'\n7: windowpane, window\n8: \u732b"
    (folder / "classes.yaml").write_text(text, encoding="utf-8")
    read = formats.read(Data(format="folder", root=str(folder))).classes
    assert list(read.values()) == [
        *("lamp", "on", "no", "12:30", "007", "true", "windowpane, window", "\u732b"),
    ]


def test_names_that_are_no_utf8(folder: Path, refuse) -> None:
    for kind in ("images", "masks"):
        (folder / kind / "train/0.png").rename(
            folder / kind / "train" / b"caf\xe9.png".decode(errors="surrogateescape")
        )
    refuse(folder, "folder", "images/train", r"caf\udce9.png' is not UTF-8; rename the file")


ALL_COLOURED = "1: {name: cat, colour: [9, 9, 90]}\n7: {name: dog, colour: [10, 200, 30]}\n"
COLOURS = {0: (0, 0, 0), 1: (9, 9, 90), 7: (10, 200, 30), 255: (255, 255, 255)}


def paint(folder: Path) -> None:
    """Draws all masks in the classes' colours."""
    for path in (folder / "masks").rglob("*.png"):
        labels = np.array(Image.open(path))
        levels = np.zeros((*labels.shape, 3), np.uint8)
        for value, colour in COLOURS.items():
            levels[labels == value] = colour
        Image.fromarray(levels).save(path)


def test_masks_in_colours_are_what_the_same_masks_are_in_label_values(
    folder: Path, tmp_path: Path
) -> None:
    (folder / "classes.yaml").write_text(ALL_COLOURED)
    data = Data(format="folder", root=str(folder))
    plain = index.build(data, tmp_path / "cache")
    expected = [np.asarray(labels_of(folder, record)) for record in plain.train]
    paint(folder)
    told: list[str] = []
    coloured = index.build(data, tmp_path / "cache", tell=told.append)
    assert told[0].startswith("8 masks are read by their colours, as classes.yaml has them: ")
    assert [r.classes for r in coloured.train] == [r.classes for r in plain.train]
    packed.pack(coloured, str(tmp_path / "packed"), tmp_path / "work")
    opened, manifest = packed.open_dataset(str(tmp_path / "packed"))
    assert (opened.digest, opened.splits) == (coloured.digest, coloured.splits)
    arrived = packed.materialise(opened, manifest, opened.train, tmp_path / "files")
    for record, labels in zip(opened.train, expected, strict=True):
        assert np.array_equal(np.asarray(labels_of(arrived, record)), labels)


def labels_of(folder: Path, record: Record) -> Image.Image:
    return contents.decode(folder, record, *contents.read(folder, record))[1]


def test_other_colours_of_the_classes_are_other_labels(folder: Path, tmp_path: Path) -> None:
    """Of the same files, so the scan's cache must not answer."""
    (folder / "classes.yaml").write_text(ALL_COLOURED)
    paint(folder)
    data = Data(format="folder", root=str(folder))
    before = index.build(data, tmp_path)
    swapped = ALL_COLOURED.replace("cat", "DOG").replace("dog", "cat").replace("DOG", "dog")
    (folder / "classes.yaml").write_text(swapped)
    assert index.build(data, tmp_path).digest != before.digest
    values = ALL_COLOURED.replace("1:", "X").replace("7:", "1:").replace("X", "7:")
    (folder / "classes.yaml").write_text(values)
    after = index.build(data, tmp_path)
    assert [r.classes for r in after.train] == [(1,), (1, 7)] * 2
    assert [r.classes for r in before.train] == [(7,), (1, 7)] * 2


def test_a_class_may_be_white(folder: Path) -> None:
    white = ALL_COLOURED.replace("9, 9, 90", "255, 255, 255")
    (folder / "classes.yaml").write_text(white)
    paint(folder)  # void is white
    for path in (folder / "masks").rglob("*.png"):
        levels = np.array(Image.open(path))
        levels[(levels == COLOURS[1]).all(-1)] = 255
        Image.fromarray(levels).save(path)
    dataset = index.build(Data(format="folder", root=str(folder)))
    assert [r.classes for r in dataset.train] == [(7,), (1, 7)] * 2


def test_two_classes_of_one_colour(folder: Path, refuse) -> None:
    (folder / "classes.yaml").write_text(ALL_COLOURED.replace("9, 9, 90", "10, 200, 30"))
    paint(folder)
    refuse(folder, "folder", "classes.yaml: 10,200,30 is the colour of 1 and of 7")
