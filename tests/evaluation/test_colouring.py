"""How segmented images look, and how they are told from photographs."""

import io
from pathlib import Path

import numpy as np
from PIL import Image

from dkd.data.palettes import voc_colour
from dkd.evaluation import colouring
from dkd.scenario.class_names import VOC_CLASSES


def test_overlay_tints_classes_and_leaves_background() -> None:
    channels = np.array([[0, 1], [1, 0]], np.uint8).repeat(16, 0).repeat(16, 1)
    grey = Image.new("RGB", (32, 32), (100, 100, 100))
    data = colouring.overlay(grey, channels, [(0, 0, 0), (200, 0, 100)], 0.5, "x")
    shown = np.asarray(Image.open(io.BytesIO(data))).astype(int)
    assert np.abs(shown[8, 8] - [100, 100, 100]).max() <= 6
    assert np.abs(shown[8, 24] - [150, 50, 100]).max() <= 6


def test_palettes_are_the_data_sets_own() -> None:
    names = list(VOC_CLASSES.values())
    assert colouring.palette(names, "voc") == tuple(voc_colour(value) for value in range(21))
    swapped = colouring.palette(["tvmonitor", "aeroplane"], "voc")
    assert swapped == ((0, 0, 0), voc_colour(20), voc_colour(1))
    mixed = colouring.palette(["cat", "tractor"], "voc")
    assert mixed[1] == voc_colour(8)
    for dataset in ("voc", "ade20k", "mine"):
        colours = colouring.palette([f"class {n}" for n in range(150)], dataset)
        assert len(set(colours)) == 151


def test_results_say_what_they_were_made_of(tmp_path: Path) -> None:
    channels, colours = np.eye(8, dtype=np.uint8), [(0, 0, 0), (9, 9, 9)]
    mask, overlay, photograph = (tmp_path / name for name in ("a.png", "a.jpg", "b.jpg"))
    mask.write_bytes(colouring.indexed(channels, colours, "image 1, model 2"))
    picture = Image.new("RGB", (8, 8))
    overlay.write_bytes(colouring.overlay(picture, channels, colours, 0.5, "image 1, model 2"))
    picture.save(photograph, comment=b"holiday")
    assert colouring.made_of(mask) == colouring.made_of(overlay) == "image 1, model 2"
    assert np.array_equal(np.asarray(Image.open(mask)), channels)
    assert colouring.made_of(photograph) is None
    photograph.write_text("no image")
    assert colouring.made_of(photograph) is None
