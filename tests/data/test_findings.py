"""What is told of a data set: each kind, named and counted, and nothing of a clean one."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dkd.data import index
from dkd.errors import UserError
from dkd.scenario.data import Data


def told(root: Path, format_: str = "folder") -> list[str]:
    lines: list[str] = []
    index.build(Data(format=format_, root=str(root)), tell=lines.append)  # type: ignore[arg-type]
    return lines


def wrong(root: Path) -> str:
    with pytest.raises(UserError) as caught:
        told(root)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def tag(path: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.open(path).save(path, exif=exif)


def turn(path: Path) -> None:
    Image.open(path).transpose(Image.Transpose.ROTATE_90).save(path)


def mask_of(path: Path, values: list[int], size: tuple[int, int]) -> None:
    labels = np.resize(np.array(values, np.uint8), size[::-1])
    Image.fromarray(labels).save(path)


def size(path: Path) -> tuple[int, int]:
    with Image.open(path) as image:
        return image.size


def test_nothing_is_told_of_a_clean_folder(folder: Path) -> None:
    assert told(folder) == []


def test_images_of_other_kinds(folder: Path) -> None:
    image = Image.open(folder / "images/train/0.png")
    image.save(folder / "images/train/x.gif")
    image.save(folder / "images/train/y.BMP")
    (folder / "images/train/notes.txt").write_text("no image")
    assert told(folder) == [
        "2 train images of other kinds than JPEG, PNG, TIFF and WebP, not used: "
        "images/train/x.gif, images/train/y.BMP"
    ]


def test_sub_folders(folder: Path) -> None:
    for name in ("images/train/more/1.png", "images/train/more/2.tif", "images/test/3.png"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(b"")
    (folder / "images/train/empty").mkdir()
    (folder / "images/4.png").write_bytes(b"")
    assert told(folder) == [
        "1 sub-folders of train images, not used: images/train/more (2 images)",
        "1 images outside the splits' folders, not used: images/4.png",
        "1 folders of images that are not a split, not used: images/test (1 images)",
    ]


def test_masks_without_an_image(folder: Path) -> None:
    for number in range(7):
        (folder / f"masks/validation/x{number}.png").write_bytes(b"")
    (line,) = told(folder)
    assert line.startswith("7 validation masks without an image that is used: ")
    assert line.endswith("masks/validation/x4.png and 2 more")


def test_masks_of_images_on_no_list(voc_maker: Callable[..., Path], tmp_path: Path) -> None:
    root = voc_maker(tmp_path / "voc", 4, 2)
    (root / "SegmentationClass/2007_999999.png").write_bytes(b"")
    lines = told(root, "voc")
    assert "1 masks whose images are on neither list: SegmentationClass/2007_999999.png" in lines


def test_a_photograph_twice(folder: Path) -> None:
    for kind in ("images", "masks"):
        content = (folder / kind / "train/1.png").read_bytes()
        (folder / kind / "train/copy.png").write_bytes(content)
    line = (
        "1 photographs appear in train more than once: images/train/1.png = images/train/copy.png"
    )
    assert told(folder) == [line]
    copy = folder / "masks/train/copy.png"
    Image.open(copy).save(copy, compress_level=1)  # other bytes, the same labels
    assert told(folder) == [line]


def test_a_photograph_twice_with_masks_that_contradict_each_other(folder: Path) -> None:
    image = (folder / "images/train/1.png").read_bytes()
    (folder / "images/train/copy.png").write_bytes(image)
    mask_of(folder / "masks/train/copy.png", [7], size(folder / "images/train/1.png"))
    assert wrong(folder) == (
        f"{folder}: 1 photographs appear in train more than once, with masks that contradict each "
        "other; keep the right one: images/train/1.png = images/train/copy.png"
    )


def test_published_data_sets_are_taken_as_they_are(
    voc_maker: Callable[..., Path], tmp_path: Path
) -> None:
    root = voc_maker(tmp_path / "voc", 4, 2)
    ids = ("2007_000001", "2007_000002")
    image = root / f"JPEGImages/{ids[0]}.jpg"
    (root / f"JPEGImages/{ids[1]}.jpg").write_bytes(image.read_bytes())
    for value, id_ in enumerate(ids, start=1):
        mask_of(root / f"SegmentationClassAug/{id_}.png", [value], size(image))
    assert any("contradict" in line for line in told(root, "voc"))


def test_validation_images_that_are_training_images(folder: Path) -> None:
    for kind in ("images", "masks"):
        content = (folder / kind / "train/2.png").read_bytes()
        (folder / kind / "validation/3.png").write_bytes(content)
    assert told(folder) == [
        "1 validation images are training images too, so scores say less than they seem to: "
        "images/train/2.png = images/validation/3.png"
    ]


def test_masks_of_0_and_255_alone(folder: Path) -> None:
    masks = sorted((folder / "masks/train").iterdir())
    for mask in masks[:3]:
        mask_of(mask, [0, 255], size(mask))
    assert told(folder) == [
        "3 train masks hold only void: masks/train/0.png, masks/train/1.png, masks/train/2.png"
    ]
    mask_of(masks[3], [0], size(masks[3]))
    assert "3 train masks, as far as they hold anything, hold only 0 and 255" in wrong(folder)


def indexed(path: Path, colours: dict[int, tuple[int, int, int]]) -> None:
    labels = Image.open(path)
    mask = Image.frombytes("P", labels.size, labels.tobytes())
    mask.putpalette([level for v in range(256) for level in colours.get(v, (v, v, v))])
    mask.save(path)


def test_a_palette_that_contradicts_the_classes(folder: Path) -> None:
    """classes.yaml has a colour for dog (7) and none for cat (1)."""
    for mask in (folder / "masks/train").iterdir():
        Image.fromarray(np.array(Image.open(mask))).save(mask)
        indexed(mask, {1: (9, 9, 90), 7: (10, 200, 30), 255: (1, 2, 3)})
    assert told(folder) == []
    indexed(folder / "masks/train/1.png", {7: (200, 10, 30)})
    assert told(folder) == [
        "1 masks have a palette that shows dog (7) in 200,10,30, where 10,200,30 is its colour; "
        "do the label values mean what they should?: masks/train/1.png"
    ]


def test_a_palette_in_another_classs_colour(voc_maker: Callable[..., Path], tmp_path: Path) -> None:
    root = voc_maker(tmp_path / "voc", 4, 2)
    mask = root / "SegmentationClassAug/2007_000001.png"
    mask_of(mask, [1], size(mask))
    indexed(mask, {1: (0, 128, 0)})
    assert (
        "1 masks have a palette that shows aeroplane (1) in 0,128,0, the colour of bicycle, where "
        "128,0,0 is its colour; do the label values mean what they should?: "
        "SegmentationClassAug/2007_000001.png"
    ) in told(root, "voc")


def test_images_that_are_turned(folder: Path) -> None:
    tag(folder / "images/train/0.png", 3)
    tag(folder / "images/train/1.png", 6)
    turn(folder / "masks/train/1.png")
    assert told(folder) == [
        "1 images are turned upright, as their EXIF data say: images/train/1.png",
        "1 images are turned upright, as their EXIF data say, and their masks are taken as drawn "
        "upright: images/train/0.png",
    ]


def test_masks_of_which_nothing_tells_how_they_were_drawn(folder: Path) -> None:
    """One was stored as the camera lay, so the other may have been."""
    tag(folder / "images/train/1.png", 6)
    assert told(folder) == [
        "1 images are turned upright with their masks, which have the size of the image as it is "
        "stored: images/train/1.png"
    ]
    tag(folder / "images/train/0.png", 3)
    assert "do not show whether they were drawn upright" in wrong(folder)
    assert wrong(folder).endswith(": images/train/0.png")
