from pathlib import Path

import pytest
from PIL import Image

from dkd.data import palettes
from dkd.scenario.class_names import ADE20K_CLASSES


@pytest.mark.parametrize(
    ("value", "colour"),
    [
        # As listed in VOC's development kit (VOClabelcolormap).
        (0, (0, 0, 0)),
        (1, (128, 0, 0)),
        (2, (0, 128, 0)),
        (5, (128, 0, 128)),
        (8, (64, 0, 0)),
        (15, (192, 128, 128)),
        (20, (0, 64, 128)),
        (255, (224, 224, 192)),
    ],
)
def test_voc_colours(value: int, colour: palettes.Colour) -> None:
    assert palettes.voc_colour(value) == colour


def test_voc_colours_are_those_of_the_real_masks(shared: Path) -> None:
    mask = next((shared / "voc_subset" / "SegmentationClass").glob("*.png"))
    table = Image.open(mask).getpalette()
    assert table is not None
    for value in range(21):
        assert palettes.voc_colour(value) == tuple(table[3 * value : 3 * value + 3])


def test_colours_are_distinct_and_stay_the_same() -> None:
    colours = palettes.distinct_colours(ADE20K_CLASSES)
    assert len(set(colours.values())) == 150
    assert (0, 0, 0) not in colours.values()
    assert colours == palettes.distinct_colours(reversed(ADE20K_CLASSES))
    taken = colours[1]
    assert palettes.distinct_colours([1], taken=[taken])[1] != taken
