"""What the formats share: how a folder's files become pairs, and what is told of the rest."""

from pathlib import Path

import pytest

from dkd.data.formats.layout import (
    Finding,
    Pair,
    by_colour,
    folder_split,
    full_palette,
    left_out,
    listed_void,
    numbered,
    split_of,
)
from dkd.errors import UserError


def pair(name: str) -> Pair:
    return Pair(name, f"images/{name}.jpg", f"masks/{name}.png")


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([], "no image; a split holds at least one"),
        (["a", "b", "a"], "a appears twice; keep one"),
        (["a\nb"], "has invisible characters"),
        (["a\udcff"], "is not UTF-8"),
    ],
)
def test_a_split_that_cannot_be(names: list[str], message: str) -> None:
    with pytest.raises(UserError, match=f"^the list: .*{message}"):
        split_of(map(pair, names), "the list")


def test_pairs_stand_in_the_order_of_names(tmp_path: Path) -> None:
    for file in ("images/train/b.JPG", "images/train/a.png", "images/train/.hidden.png"):
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).touch()
    with pytest.raises(UserError, match="masks/train: no such folder"):
        folder_split(tmp_path, "masks", "train")
    (tmp_path / "masks/train").mkdir(parents=True)
    assert folder_split(tmp_path, "masks", "train") == (
        Pair("a", "images/train/a.png", "masks/train/a.png"),
        Pair("b", "images/train/b.JPG", "masks/train/b.png"),
    )


def test_what_is_not_taken_is_told(tmp_path: Path) -> None:
    files = (
        *("images/train/a.png", "images/train/b.gif", "images/train/more/c.png"),
        *("images/d.jpg", "images/rest/e.png", "masks/train/a.png", "masks/train/f.png"),
    )
    for file in files:
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).touch()
    splits = {"train": folder_split(tmp_path, "masks", "train")}
    told = {finding.what: finding.names for finding in left_out(tmp_path, "masks", splits)}
    assert told == {
        "train images of other kinds than JPEG, PNG, TIFF and WebP, not used": (
            "images/train/b.gif",
        ),
        "sub-folders of train images, not used": ("images/train/more (1 images)",),
        "train masks without an image that is used": ("masks/train/f.png",),
        "images outside the splits' folders, not used": ("images/d.jpg",),
        "folders of images that are not a split, not used": ("images/rest (1 images)",),
    }


def test_a_finding_names_the_first_five() -> None:
    assert str(Finding("files", tuple("abcdefg"))) == "7 files: a, b, c, d, e and 2 more"
    assert str(Finding("files", ("a",))) == "1 files: a"


def test_two_values_of_one_colour_are_refused() -> None:
    red, green = (255, 0, 0), (0, 255, 0)
    assert by_colour({2: red, 1: green}, Path("map")) == ((green, 1), (red, 2))
    with pytest.raises(UserError, match="map: 255,0,0 is the colour of 1 and of 2"):
        by_colour({1: red, 2: red}, Path("map"))


def test_classes_are_numbered_in_their_order_and_void_is_none() -> None:
    names = ["void", "cat", "_background_", "dog", "ignore"]
    expected = {"cat": 1, "dog": 2, "void": 255, "ignore": 255, "_background_": 0}
    assert numbered(names, Path("map")) == expected
    for wrong, message in (
        (["void"], "0 classes"),
        ([f"c{n}" for n in range(65535)], "65535 classes; a data set has 1 to 65534"),
        (["Dog", "dog"], "'dog' and 'Dog', which look alike"),
    ):
        with pytest.raises(UserError, match=f"^map: .*{message}"):
            numbered(wrong, Path("map"))


def test_every_class_has_a_colour_of_its_own() -> None:
    palette = full_palette([1, 2, 3], {2: (9, 9, 9)})
    assert (palette[0], palette[2], palette[255]) == ((0, 0, 0), (9, 9, 9), (255, 255, 255))
    assert len(set(palette.values())) == len(palette) == 5
    many = full_palette(range(1, 1001), {})
    assert (many[0], many[65535]) == ((0, 0, 0), (255, 255, 255))
    assert len(set(many.values())) == len(many) == 1002


def test_void_of_more_than_254_classes() -> None:
    names = ["void", *(f"c{n}" for n in range(255))]
    assert numbered(names, Path("map"))["void"] == 65535
    assert numbered(names[:-1], Path("map"))["void"] == 255


def test_255_is_void_in_a_list_unless_there_are_more_classes() -> None:
    all_below = {n: f"c{n}" for n in range(1, 255)}
    for named, void in (
        ({1: "a", 254: "b"}, 255),
        ({1: "a", 255: "Void"}, 255),
        ({1: "a", 256: "b"}, 65535),
        ({1: "a", 65535: "void"}, 255),
        (all_below, 255),
        (all_below | {255: "Ignore"}, 255),
        (all_below | {255: "zebra"}, 65535),
    ):
        assert listed_void(named) == void


def test_two_masks_of_one_image(tmp_path: Path) -> None:
    for name in ("images/train/a.png", "masks/train/a.png", "masks/train/a.tif"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    with pytest.raises(UserError, match=r"train: a\.png and a\.tif are masks of one image"):
        folder_split(tmp_path, "masks", "train")
