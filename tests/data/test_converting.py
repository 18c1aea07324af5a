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
