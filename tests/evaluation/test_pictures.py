"""Pictures as files. Those of a step are compared in memory/test_exemplars.py."""

import io

import numpy as np
import pytest
from PIL import Image

from dkd.evaluation.pictures import PICTURE_SIDE, _within, jpeg, png


def test_a_map_of_channels_is_kept_exactly() -> None:
    channels = np.arange(256, dtype=np.uint8).reshape(8, 32)
    read = Image.open(io.BytesIO(png(channels)))
    assert (read.format, read.mode) == ("PNG", "L")
    np.testing.assert_array_equal(np.asarray(read), channels)


def test_channels_beyond_254_take_16_bits() -> None:
    channels = np.array([[0, 255, 300, 32766, 32767]], np.int16)
    read = Image.open(io.BytesIO(png(channels)))
    assert (read.format, read.mode) == ("PNG", "I;16")
    assert np.asarray(read).tolist() == [[0, 255, 300, 32766, 65535]]  # the last is void


def test_a_photograph_is_nearly_kept() -> None:
    photograph = Image.new("RGB", (9, 7), (200, 30, 90))
    read = Image.open(io.BytesIO(jpeg(photograph)))
    assert (read.format, read.size) == ("JPEG", (9, 7))
    assert np.abs(np.asarray(read).astype(int) - np.asarray(photograph)).max() < 8


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((100, 50), (100, 50)),
        ((PICTURE_SIDE * 2, 30), (PICTURE_SIDE, 15)),
        ((1, PICTURE_SIDE * 10), (1, PICTURE_SIDE)),
    ],
)
def test_pictures_are_shrunk_and_never_enlarged(
    size: tuple[int, int], expected: tuple[int, int]
) -> None:
    assert _within(*size) == expected
