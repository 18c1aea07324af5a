"""The same masks, written by another program in every format of ours that it writes."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dkd.data import index
from dkd.data.formats import recognised
from dkd.scenario.data import Data

pytest.importorskip("datumaro")

from datumaro.components.annotation import (
    AnnotationType,
    LabelCategories,
    Mask,
    MaskCategories,
)
from datumaro.components.dataset import Dataset as Written
from datumaro.components.dataset_base import DatasetItem
from datumaro.components.media import Image
from datumaro.plugins.data_formats.cityscapes import CityscapesExporter
from datumaro.plugins.data_formats.coco.exporter import CocoInstancesExporter
from datumaro.plugins.data_formats.voc.exporter import VocSegmentationExporter
from datumaro.util.image import IMAGE_BACKEND, ImageBackend


class Cityscapes(CityscapesExporter):
    """Without the instances' masks: the program was not yet released for this Pillow."""

    def save_mask(self, *args: Any, dtype: type = np.uint8, **others: Any) -> None:
        if dtype is not np.int32:
            super().save_mask(*args, dtype=dtype, **others)

    def save_label_map(self) -> None:
        pass


@contextmanager
def by_opencv() -> Iterator[None]:
    token = IMAGE_BACKEND.set(ImageBackend.cv2)
    try:
        yield
    finally:
        IMAGE_BACKEND.reset(token)


def written(
    labels,
    names: list[str],
    prefix: str = "",
    first: int = 0,
    suffix: str = ".png",
    empty: bool = True,
) -> Written:
    rng = np.random.default_rng(0)
    items = []
    for split, masks in labels.items():
        for id_, mask in masks.items():
            image = Image.from_numpy(
                data=rng.integers(0, 255, (*mask.shape, 3), dtype=np.uint8), ext=suffix
            )
            values = [value for value in (1, 2) if (mask == value).any()]
            annotations = [
                Mask(mask == value, label=first + value, id=value, group=value) for value in values
            ] or [Mask(np.zeros(mask.shape, bool), label=0)] * empty
            items.append(
                DatasetItem(
                    prefix + id_,
                    subset={"validation": "val"}.get(split, split),
                    media=image,
                    annotations=annotations,
                )
            )
    colours = {0: (0, 0, 0), 1: (250, 50, 83), 2: (36, 179, 83)}
    categories = {AnnotationType.label: LabelCategories.from_iterable(names)}
    if first == 0:
        categories[AnnotationType.mask] = MaskCategories(colours)
    return Written.from_iterable(items, categories=categories)


def same(found: dict[str, Any], labels: dict[str, Any], values: dict[int, int]) -> None:
    assert {split: set(masks) for split, masks in found.items()} == {
        split: set(masks) for split, masks in labels.items()
    }
    table = np.array([values[value] for value in range(3)])
    for split, masks in labels.items():
        for id_, mask in masks.items():
            assert np.array_equal(found[split][id_], table[mask]), (split, id_)


def test_coco_run_lengths(tmp_path: Path, labels, masks_of) -> None:
    root = tmp_path / "coco"
    CocoInstancesExporter.convert(
        written(labels, ["cat", "dog"], first=-1, empty=False), str(root), save_media=True
    )
    assert recognised(root) == "coco"
    dataset = index.build(Data(format="coco", root=str(root)), tmp_path / "cache")
    assert dataset.classes == {1: "cat", 2: "dog"}
    same(masks_of(dataset), labels, {0: 0, 1: 1, 2: 2})


def test_voc_and_cvat(tmp_path: Path, labels, masks_of) -> None:
    """Its VOC with a label map of own classes is laid out as CVAT's "Segmentation mask"."""
    root = tmp_path / "voc"
    VocSegmentationExporter.convert(
        written(labels, ["background", "cat", "dog"]),
        str(root),
        save_media=True,
        label_map="source",
    )
    assert recognised(root) == "cvat"
    dataset = index.build(Data(format="cvat", root=str(root)), tmp_path / "cache")
    assert dataset.classes == {1: "cat", 2: "dog"}
    same(masks_of(dataset), labels, {0: 0, 1: 1, 2: 2})


def test_voc(tmp_path: Path, labels, masks_of) -> None:
    root = tmp_path / "voc"
    VocSegmentationExporter.convert(
        written(labels, ["background", "cat", "dog"], suffix=".jpg"),
        str(root),
        save_media=True,
        label_map="voc",
        apply_colormap=False,
    )
    (root / "labelmap.txt").unlink()  # VOC's own classes
    assert recognised(root) == "voc"
    dataset = index.build(Data(format="voc", root=str(root), train="train"), tmp_path / "cache")
    same(masks_of(dataset), labels, {0: 0, 1: 8, 2: 12})


def test_cityscapes(tmp_path: Path, labels, masks_of) -> None:
    root = tmp_path / "cityscapes"
    with by_opencv():
        Cityscapes.convert(
            written(labels, ["road", "car"], "ulm/", first=-1),
            str(root),
            save_media=True,
            label_map="cityscapes",
        )
    assert recognised(root) == "cityscapes"
    dataset = index.build(Data(format="cityscapes", root=str(root)), tmp_path / "cache")
    same(masks_of(dataset), labels, {0: 0, 1: 7, 2: 26})
