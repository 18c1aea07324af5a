from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dkd.data import contents, converting, index
from dkd.data.index import Dataset
from dkd.errors import UserError
from dkd.scenario.data import Data


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    """Masks in colours, a turned image, names that need quotes and folders in ids."""
    root = tmp_path / "export"
    (root / "ImageSets/Segmentation").mkdir(parents=True)
    rng = np.random.default_rng(1)
    exif = Image.Exif()
    exif[0x0112] = 6
    colours = np.array([(0, 0, 0), (250, 50, 83), (36, 179, 83), (224, 224, 192)], np.uint8)
    for split, ids in (("train", ["a", "deep/b", "deep_b"]), ("val", ["c"])):
        (root / f"ImageSets/Segmentation/{split}.txt").write_text("\n".join(ids) + "\n")
        for id_ in ids:
            for folder in ("JPEGImages", "SegmentationClass"):
                (root / folder / id_).parent.mkdir(parents=True, exist_ok=True)
            pixels = rng.integers(0, 256, (30, 20, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / f"JPEGImages/{id_}.jpg", exif=exif)
            values = rng.integers(0, 4, (20, 30))
            Image.fromarray(colours[values]).save(root / f"SegmentationClass/{id_}.png")
    (root / "labelmap.txt").write_text(
        "background:0,0,0::\nnull:250,50,83::\nlamp, red:36,179,83::\nvoid:224,224,192::\n"
    )
    return index.build(Data(format="cvat", root=str(root)))


def labels(dataset: Dataset, split: str) -> list[np.ndarray]:
    root = Path(dataset.root)
    return [
        np.asarray(contents.decode(root, record, *contents.read(root, record))[1])
        for record in dataset.splits[split]
    ]


def test_the_folder_reads_to_the_same_masks_classes_and_images(
    dataset: Dataset, tmp_path: Path
) -> None:
    target = tmp_path / "plain"
    told: list[tuple[int, int]] = []
    converting.to_folder(dataset, Path(dataset.root), target, lambda *n: told.append(n))
    found = index.build(Data(format="folder", root=str(target)))
    assert found.classes == dataset.classes
    assert found.palette == dataset.palette
    assert [r.id for r in found.train] == ["a", "deep_b", "deep_b_"]
    assert told[-1] == (4, 4)
    for split in dataset.splits:
        for one, other in zip(labels(found, split), labels(dataset, split), strict=True):
            assert np.array_equal(one, other)
    assert (target / "images/train/a.jpg").read_bytes() == Path(
        dataset.root, "JPEGImages/a.jpg"
    ).read_bytes()


def test_nothing_is_left_of_a_folder_that_cannot_be_written(
    dataset: Dataset, tmp_path: Path
) -> None:
    (Path(dataset.root) / "JPEGImages/c.jpg").unlink()
    before = set(tmp_path.iterdir())
    with pytest.raises(UserError, match=r"c\.jpg"):
        converting.to_folder(dataset, Path(dataset.root), tmp_path / "plain")
    assert set(tmp_path.iterdir()) == before
    with pytest.raises(UserError, match="is there already"):
        converting.to_folder(dataset, Path(dataset.root), tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="a file is where a folder is needed"):
        converting.to_folder(dataset, Path(dataset.root), tmp_path / "file/plain")


@pytest.mark.parametrize(("largest", "void", "mode"), [(7, 255, "P"), (300, 65535, "I;16")])
def test_masks_of_16_bits_are_of_8_where_these_suffice(
    tmp_path: Path, largest: int, void: int, mode: str
) -> None:
    """With images of kinds and names that others do not have; both ways read the same."""
    root, rng = tmp_path / "wide", np.random.default_rng(2)
    for split in ("train", "validation"):
        for folder in ("images", "masks"):
            (root / folder / split).mkdir(parents=True)
        pixels = rng.integers(0, 256, (8, 9, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(root / f"images/{split}/\u00e4 \u732b.webp", lossless=True)
        values = rng.choice([0, 3, largest, 65535], (8, 9)).astype(np.uint16)
        Image.fromarray(values).save(root / f"masks/{split}/\u00e4 \u732b.tif")
    (root / "classes.yaml").write_text(f"3: cat\n{largest}: dog\n")
    before = index.build(Data(format="folder", root=str(root)))
    converting.to_folder(before, root, tmp_path / "made")
    after = index.build(Data(format="folder", root=str(tmp_path / "made")))
    assert (after.classes, after.void) == (before.classes, void)
    (record,) = after.train
    assert record.image == "images/train/\u00e4 \u732b.webp"
    assert Image.open(tmp_path / "made" / record.mask).mode == mode
    for split in before.splits:
        (found,), (expected,) = labels(after, split), labels(before, split)
        assert np.array_equal(found, np.where(expected == 65535, void, expected))
