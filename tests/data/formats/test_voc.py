from collections.abc import Callable
from pathlib import Path

import pytest

from dkd.data import formats
from dkd.scenario.data import Data


def test_empty_list(voc_maker: Callable[..., Path], tmp_path: Path, refuse) -> None:
    root = voc_maker(tmp_path / "voc", 3, 2)
    (root / "ImageSets/Segmentation/val.txt").write_text("\n")
    refuse(root, "voc", "val.txt", "no image")


def test_unknown_list(voc_maker: Callable[..., Path], tmp_path: Path, refuse) -> None:
    root = voc_maker(tmp_path / "voc", 3, 2)
    refuse(root, "voc", "trainval.txt", "train_aug, val", train="trainval")


@pytest.mark.parametrize("line", ["a b c", "../../x.jpg m.png", "x/y"])
def test_line_of_a_list(voc_maker: Callable[..., Path], tmp_path: Path, line: str, refuse) -> None:
    root = voc_maker(tmp_path / "voc", 3, 2)
    (root / "ImageSets/Segmentation/val.txt").write_text(f"2007_000004\n{line}\n")
    refuse(root, "voc", "val.txt", "line 2")


def test_id_twice(voc_maker: Callable[..., Path], tmp_path: Path, refuse) -> None:
    root = voc_maker(tmp_path / "voc", 3, 2)
    (root / "ImageSets/Segmentation/val.txt").write_text("2007_000004\n2007_000004\n")
    refuse(root, "voc", "val.txt", "2007_000004", "twice")


def test_parent_of_the_voc_folder(voc_maker: Callable[..., Path], tmp_path: Path, refuse) -> None:
    voc_maker(tmp_path / "VOCdevkit" / "VOC2012", 3, 2)
    refuse(tmp_path, "voc", f"did you mean {tmp_path}/VOCdevkit/VOC2012")


LABELMAP = "# label:color_rgb:parts:actions\nbackground:0,0,0::\n"


@pytest.mark.parametrize(
    ("name", "text", "word"),
    [
        ("labelmap.txt", LABELMAP + "lamp:128,0,0::\n", "lamp:128,0,0"),
        ("labelmap.txt", LABELMAP + "cat:1,2,3::\n", "cat:1,2,3"),
        ("class_names.txt", "__ignore__\n_background_\nbicycle\naeroplane\n", "bicycle"),
        ("labels.txt", "aeroplane\nlamp\n", "lamp"),
    ],
)
def test_a_label_map_of_other_classes(
    voc_maker: Callable[..., Path], tmp_path: Path, name: str, text: str, word: str, refuse
) -> None:
    root = voc_maker(tmp_path / "voc", 3, 2)
    (root / name).write_text(text)
    refuse(root, "voc", name, word, "has its own")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("labelmap.txt", LABELMAP + "cat:64,0,0::\nignored:224,224,192::\naeroplane:::\n"),
        ("class_names.txt", "__ignore__\n_background_\naeroplane\nbicycle\n"),
    ],
)
def test_a_label_map_of_vocs_classes(
    voc_maker: Callable[..., Path], tmp_path: Path, name: str, text: str
) -> None:
    root = voc_maker(tmp_path / "voc", 3, 2)
    (root / name).write_text(text)
    assert len(formats.read(Data(format="voc", root=str(root))).splits["train"]) == 3
