from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dkd.data import formats, index
from dkd.data.formats import recognised
from dkd.errors import UserError
from dkd.scenario.data import Data

LABELMAP = """\
# label:color_rgb:parts:actions
background:0,0,0::
traffic light:250,50,83::
lamp:36,179,83::wears hat
ignored:224,224,192::
"""
COLOURS = {0: (0, 0, 0), 1: (250, 50, 83), 2: (36, 179, 83), 255: (224, 224, 192)}


def in_colours(labels: np.ndarray, colours: dict[int, tuple[int, int, int]]) -> Image.Image:
    levels = np.zeros((*labels.shape, 3), np.uint8)
    for value, colour in colours.items():
        levels[labels == value] = colour
    return Image.fromarray(levels)


@pytest.fixture
def export(tmp_path: Path) -> Path:
    root = tmp_path / "export"
    (root / "ImageSets/Segmentation").mkdir(parents=True)
    rng = np.random.default_rng(1)
    for split, ids in (("train", ["a", "two words", "deep/b"]), ("val", ["c"])):
        quoted = [f'"{id_}"' if " " in id_ else id_ for id_ in ids]
        (root / f"ImageSets/Segmentation/{split}.txt").write_text("\n".join(quoted) + "\n")
        for id_ in ids:
            image, mask = root / f"JPEGImages/{id_}.png", root / f"SegmentationClass/{id_}.png"
            for path in (image, mask):
                path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(rng.integers(0, 256, (20, 30, 3), dtype=np.uint8)).save(image)
            values = np.array([0, 1, 255] if split == "train" else [0, 2])
            in_colours(np.resize(values, (20, 30)), COLOURS).save(mask)
    (root / "labelmap.txt").write_text(LABELMAP)
    return root


def data(root: Path) -> Data:
    return Data(format="cvat", root=str(root))


def refuse(root: Path, *words: str) -> None:
    with pytest.raises(UserError) as caught:
        index.build(data(root))
    assert "\n" not in str(caught.value)
    for word in words:
        assert word in str(caught.value)


def test_labels_are_numbered_in_their_order(export: Path) -> None:
    assert recognised(export) == "cvat"
    told: list[str] = []
    dataset = index.build(data(export), tell=told.append)
    assert dataset.classes == {1: "traffic light", 2: "lamp"}
    assert [dataset.palette[value] for value in (1, 2)] == [COLOURS[1], COLOURS[2]]
    assert [record.id for record in dataset.train] == ["a", "two words", "deep/b"]
    assert [record.classes for record in dataset.train] == [(1,)] * 3
    assert [record.classes for record in dataset.validation] == [(2,)]
    assert told == []


def test_masks_of_images_on_no_list_are_told(export: Path) -> None:
    (export / "SegmentationClass/d.png").write_bytes(b"")
    (finding,) = formats.read(data(export)).findings
    assert str(finding) == "1 masks whose images are on neither list: SegmentationClass/d.png"


def test_a_colour_that_is_no_label(export: Path) -> None:
    mask = export / "SegmentationClass/c.png"
    levels = np.array(Image.open(mask))
    levels[0, :3] = (1, 2, 3)
    Image.fromarray(levels).save(mask)
    refuse(export, "SegmentationClass/c.png: 3 pixels have the colour 1,2,3", "belongs to no class")


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("car", ("line 6", "'car' is not NAME:RED,GREEN,BLUE::")),
        ("car:1,2::", ("line 6", "is not NAME")),
        ("car:1,2,256::", ("line 6", "is not NAME")),
        ("lamp:1,2,3::", ("line 6", "'lamp' appears twice")),
        ("car:36,179,83::", ("36,179,83 is the colour of 2 and of 3",)),
        ("_background_:5,5,5::", ("line 6", "background or void")),
    ],
)
def test_lines_of_the_label_map(export: Path, line: str, words: tuple[str, ...]) -> None:
    (export / "labelmap.txt").write_text(LABELMAP + line + "\n")
    refuse(export, "labelmap.txt", *words)


def test_an_export_without_labels_or_images(export: Path) -> None:
    (export / "labelmap.txt").write_text("# label:color_rgb:parts:actions\n")
    refuse(export, "labelmap.txt: no label")
    (export / "labelmap.txt").unlink()
    refuse(export, "labelmap.txt: missing; export the task")
    (export / "labelmap.txt").write_text(LABELMAP)
    (export / "JPEGImages/a.png").unlink()
    refuse(export, "JPEGImages/a.jpg: the image is missing")
    (export / "ImageSets/Segmentation/val.txt").rename(export / "ImageSets/Segmentation/Test.txt")
    refuse(export, "val.txt: no such list; the folder has Test, train")


@pytest.mark.parametrize("name", ["../a", "/etc/a"])
def test_a_line_that_leads_out(export: Path, name: str) -> None:
    (export / "ImageSets/Segmentation/val.txt").write_text(name)
    refuse(export, "val.txt: line 1 leads outside")


def test_as_voc_it_is_refused(export: Path) -> None:
    with pytest.raises(UserError, match=r"labelmap\.txt: .*use --format cvat"):
        formats.read(Data(format="voc", root=str(export)))


def test_vocs_own_folder_stays_voc(voc_maker: Callable[..., Path], tmp_path: Path) -> None:
    assert recognised(voc_maker(tmp_path / "voc", 3, 2)) == "voc"


def test_subsets_as_cvat_calls_them(export: Path) -> None:
    lists = export / "ImageSets/Segmentation"
    (lists / "train.txt").rename(lists / "Train.txt")
    (lists / "val.txt").rename(lists / "Validation.txt")
    dataset = index.build(data(export))
    assert [record.id for record in dataset.validation] == ["c"]
    assert len(dataset.train) == 3


def test_a_task_without_subsets_is_divided(export: Path) -> None:
    """Its only list is ``default.txt``."""
    lists = export / "ImageSets/Segmentation"
    ids = "".join((lists / f"{name}.txt").read_text() for name in ("train", "val"))
    for name in ("train", "val"):
        (lists / f"{name}.txt").unlink()
    (lists / "default.txt").write_text(ids)
    told: list[str] = []
    dataset = index.build(data(export), tell=told.append)
    assert {r.id for split in dataset.splits.values() for r in split} == {
        *("a", "two words", "deep/b", "c")
    }
    assert len(dataset.validation) >= 1
    assert "default.txt has no splits" in told[0]


def test_black_is_background_beside_a_background_of_another_colour(export: Path) -> None:
    """As the documentation of CVAT shows a label map."""
    (export / "labelmap.txt").write_text(LABELMAP.replace("background:0,0,0", "background:0,128,0"))
    assert [record.classes for record in index.build(data(export)).validation] == [(2,)]
    black = LABELMAP.replace("background:0,0,0", "background:0,128,0").replace("250,50,83", "0,0,0")
    (export / "labelmap.txt").write_text(black)
    refuse(export, "250,50,83")  # black is the traffic light's
