import io
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dkd.data import index
from dkd.data.index import Dataset
from dkd.report import data_view
from dkd.scenario.data import Data
from dkd.scenario.tasks import Task


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    root = tmp_path / "images & masks"
    rng = np.random.default_rng(1)
    for split, count in (("train", 12), ("validation", 3)):
        for n in range(count):
            mask = np.zeros((20, 30), np.uint8)
            if n:
                mask[2:9, 2:9] = 1
            if n == 5:
                mask[10:15, 10:15], mask[0] = 2, 255
            for folder, pixels in (("images", rng.integers(0, 256, (20, 30, 3))), ("masks", mask)):
                (root / folder / split).mkdir(parents=True, exist_ok=True)
                Image.fromarray(pixels.astype(np.uint8)).save(root / f"{folder}/{split}/{n}.png")
    (root / "classes.yaml").write_text("1: {name: <cat>, colour: [9, 8, 7]}\n2: dog\n3: sheep\n")
    return index.build(Data(format="folder", root=str(root)))


def test_every_class_that_is_there_is_shown_the_rarest_first(dataset: Dataset) -> None:
    shown = data_view.chosen(dataset, 3)
    assert shown[0] == ("train", next(r for r in dataset.train if r.id == "5"))
    assert [bool(r.classes) for _, r in shown] == [True, True, False]
    assert data_view.chosen(dataset, 100)[:3] == shown
    assert len({(split, r.id) for split, r in data_view.chosen(dataset, 100)}) == 14


def test_the_page_is_whole_in_itself_and_counts(dataset: Dataset) -> None:
    task = Task((("<cat>", "dog"), ("sheep",)))
    page = data_view.render(dataset, lambda _: Path(dataset.root), 4, task)
    assert page == data_view.render(dataset, lambda _: Path(dataset.root), 4, task)
    assert page.count("<figure>") == 4
    assert page.count('class="scroll" tabindex="0"') == 2  # wide tables, reached by keyboard
    assert "&lt;cat&gt;" in page
    assert "<cat>" not in page
    assert not re.search(r"<script|https?://|src=\"(?!data:)", page)
    rows = [re.findall(r">([^<>]*)</td>", row) for row in re.findall(r"<tr.*?</tr>", page, re.S)]
    counts = [row for row in rows if row]
    assert counts[:3] == [
        ["&lt;cat&gt;", "1", "0", "11", "2"],
        ["dog", "2", "0", "1", "0"],
        ["sheep", "3", "1", "0", "0"],
    ]
    assert counts[3:] == [["0", "&lt;cat&gt;, dog", "11", "2"], ["1", "sheep", "0", "0"]]


def test_the_overlay_tints_labels_and_nothing_else() -> None:
    mask = np.zeros((20, 30), np.uint8)
    mask[4:9, 4:9], mask[12:, :] = 1, 255
    data = data_view.overlay(mask, {1: (200, 100, 0)}, (255,))
    pixels = np.asarray(Image.open(io.BytesIO(data)))
    assert (pixels[mask == 0, 3] == 0).all()
    assert (pixels[mask != 0, 3] > 0).all()
    assert (pixels[mask == 1, :3] == (200, 100, 0)).all()
    inner = np.zeros_like(mask)
    inner[5:8, 5:8] = 1  # a pixel from all four sides
    assert len(np.unique(pixels[inner == 1, 3])) == 1
    assert (pixels[(mask == 1) & (inner == 0), 3] == 255).all()
    assert len(np.unique(pixels[12:].reshape(-1, 4), axis=0)) == 2
