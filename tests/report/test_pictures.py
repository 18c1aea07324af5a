import base64
import io

import numpy as np
import pytest
import report_samples as samples
from PIL import Image

from dkd.errors import UserError
from dkd.report import pictures

COLOURS = ((0, 0, 0), (128, 0, 0), (0, 128, 0))


def decoded(uri: str) -> Image.Image:
    head, _, data = uri.partition(",")
    assert head in ("data:image/png;base64", "data:image/jpeg;base64")
    return Image.open(io.BytesIO(base64.b64decode(data)))


def test_labels_get_the_colours_of_their_channels() -> None:
    labels = np.array([[0, 2], [1, 255]], np.uint8)
    image = decoded(pictures.coloured(labels, COLOURS, 256, "a")).convert("RGB")
    assert np.asarray(image).tolist() == [[[0, 0, 0], [0, 128, 0]], [[128, 0, 0], [224, 224, 192]]]


def test_a_large_label_map_is_reduced_without_new_colours() -> None:
    labels = np.kron(np.array([[0, 1], [2, 1]]), np.ones((300, 200))).astype(np.uint8)
    image = decoded(pictures.coloured(labels, COLOURS, 100, "a"))
    assert image.size == (67, 100)
    assert {colour for _, colour in image.convert("RGB").getcolors() or []} == set(COLOURS)


def test_a_value_without_a_channel_is_told() -> None:
    with pytest.raises(UserError, match="picture x: value 7 is no channel of 3"):
        pictures.coloured(np.array([[7]], np.uint8), COLOURS, 100, "x")


def test_a_photograph_is_reduced_to_a_jpeg() -> None:
    photo = np.random.default_rng(1).integers(0, 255, (300, 400, 3)).astype(np.uint8)
    image = decoded(pictures.photograph(samples.png(photo), 100, "a"))
    assert (image.format, image.size) == ("JPEG", (100, 75))


def test_a_small_photograph_is_taken_as_it_is() -> None:
    data = samples.png(np.zeros((8, 8, 3), np.uint8))
    uri = pictures.photograph(data, 100, "a")
    assert base64.b64decode(uri.partition(",")[2]) == data


def test_a_broken_picture_is_told() -> None:
    with pytest.raises(UserError, match="picture x: no PNG or JPEG"):
        pictures.photograph(b"GIF", 100, "x")
    whole = samples.png(np.random.default_rng(1).integers(0, 255, (64, 64)).astype(np.uint8))
    with pytest.raises(UserError, match="picture x: "):
        pictures.label_map(whole[: len(whole) // 2], "x")


def test_a_coloured_label_map_is_told() -> None:
    with pytest.raises(UserError, match="picture x: mode RGB"):
        pictures.label_map(samples.png(np.zeros((4, 4, 3), np.uint8)), "x")
