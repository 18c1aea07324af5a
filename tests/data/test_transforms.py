import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torchvision import transforms as reference

from dkd.data import transforms

IDENTITY = np.arange(256, dtype=np.uint8)


def random_image(height: int, width: int, seed: int = 0) -> Image.Image:
    """Smooth enough that resizing means something."""
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 256, (height // 8 + 2, width // 8 + 2, 3), dtype=np.uint8)
    return Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)


def random_mask(height: int, width: int, seed: int = 0) -> Image.Image:
    labels = np.random.default_rng(seed).integers(0, 256, (height, width), dtype=np.uint8)
    return Image.fromarray(labels)


def to_bytes(image: torch.Tensor) -> np.ndarray:
    """Undoes the normalisation: H x W x 3, in 0..255."""
    mean, std = torch.tensor(transforms.MEAN), torch.tensor(transforms.STD)
    return ((image.permute(1, 2, 0) * std + mean) * 255).numpy()


@pytest.mark.parametrize(
    ("height", "width"), [(375, 500), (500, 375), (100, 400), (300, 60), (64, 64)]
)
def test_crops_are_distributed_as_torchvisions(height: int, width: int) -> None:
    count = 3000
    torch.manual_seed(0)
    blank = torch.empty(1, height, width)
    theirs = np.array(
        [
            reference.RandomResizedCrop.get_params(
                blank, list(transforms.AREA), list(transforms.ASPECT)
            )
            for _ in range(count)
        ]
    )
    crops = [transforms.draw_crop(height, width, transforms.stream(3, 0, k)) for k in range(count)]
    ours = np.array([(c.top, c.left, c.height, c.width) for c in crops])
    for column in range(4):
        a, b = theirs[:, column], ours[:, column]
        error = math.sqrt((a.var() + b.var()) / count) + 1e-9
        assert abs(a.mean() - b.mean()) < 4 * error
        # Kolmogorov-Smirnov distance; at this number 0.05 has a chance of one in a thousand.
        grid = np.union1d(a, b)
        steps = [np.searchsorted(np.sort(x), grid, side="right") / count for x in (a, b)]
        assert np.abs(steps[0] - steps[1]).max() < 0.05
    assert 0.45 < np.mean([c.flip for c in crops]) < 0.55


@given(st.integers(1, 700), st.integers(1, 700), st.integers(0, 2**40))
def test_crops_lie_in_the_image(height: int, width: int, position: int) -> None:
    crop = transforms.draw_crop(height, width, transforms.stream(1, 2, position))
    assert crop.height >= 1
    assert crop.width >= 1
    assert 0 <= crop.top <= height - crop.height
    assert 0 <= crop.left <= width - crop.width


def test_random_words_never_change() -> None:
    # Philox 4x64-10 with counter and key 0, as Random123's known answers (kat_vectors) have it;
    # NumPy counts up before it draws.
    last = np.full(4, 2**64 - 1, np.uint64)
    words = np.random.Philox(key=np.zeros(2, np.uint64), counter=last).random_raw(2)
    assert words.tolist() == [0x16554D9ECA36314C, 0xDB20FE9D672D0FDC]
    # They decide what every run trains on.
    assert transforms.raw_stream(1, 1, 0, 0, 1).tolist() == [1386294051110952485]


def test_streams_depend_on_seed_epoch_and_position_alone() -> None:
    keys = [(s, e, p) for s in range(3) for e in range(3) for p in range(3)]
    streams = {transforms.stream(*key).tobytes() for key in keys}
    assert len(streams) == len(keys)
    assert np.array_equal(transforms.stream(1, 2, 3), transforms.stream(1, 2, 3))
    uniforms = np.concatenate([transforms.stream(1, 0, k) for k in range(500)])
    assert abs(uniforms.mean() - 0.5) < 0.01
    assert uniforms.min() >= 0
    assert uniforms.max() < 1


@given(
    st.tuples(st.integers(1, 60), st.integers(1, 60)),
    st.tuples(st.integers(1, 60), st.integers(1, 60)),
)
@settings(max_examples=50)
def test_labels_take_the_pixel_under_each_centre(
    size: tuple[int, int], result: tuple[int, int]
) -> None:
    labels = np.random.default_rng(1).integers(0, 256, size, dtype=np.uint8)
    half = Fraction(1, 2)
    rows = [math.floor((y + half) * size[0] / result[0]) for y in range(result[0])]
    columns = [math.floor((x + half) * size[1] / result[1]) for x in range(result[1])]
    expected = [[labels[y, x] for x in columns] for y in rows]
    assert transforms.nearest(labels, *result).tolist() == expected


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("box", [(0, 0, 90, 120), (10, 20, 40, 50), (0, 0, 1, 1), (5, 7, 80, 30)])
def test_training_sample_against_pillow(box: tuple[int, int, int, int], flip: bool) -> None:
    top, left, height, width = box
    image, mask = random_image(90, 120), random_mask(90, 120)
    table = np.random.default_rng(3).permutation(256).astype(np.uint8)
    crop = transforms.Crop(top, left, height, width, flip)
    pixels, labels = transforms.training_sample(image, mask, table, 64, crop)
    assert pixels.dtype == torch.float32
    assert labels.dtype == torch.uint8
    assert pixels.is_contiguous()

    region = (left, top, left + width, top + height)
    expected = np.array(image.crop(region).resize((64, 64), Image.Resampling.BILINEAR))
    truth = np.array(mask.crop(region).resize((64, 64), Image.Resampling.NEAREST))
    if flip:
        expected, truth = expected[:, ::-1], truth[:, ::-1]
    assert np.abs(to_bytes(pixels) - expected).max() < 1.51
    assert np.array_equal(labels.numpy(), table[truth])


@pytest.mark.parametrize(("height", "width"), [(80, 100), (101, 67), (64, 64), (30, 90)])
def test_evaluation_sample_against_torchvision(height: int, width: int) -> None:
    image, mask = random_image(height, width), random_mask(height, width)
    resized = reference.Resize(64, antialias=True)(transforms.to_tensor(image))
    pixels, labels = transforms.evaluation_sample(image, mask, IDENTITY, 64, whole=True)
    assert np.abs(to_bytes(pixels) - resized.permute(1, 2, 0).numpy()).max() < 1.01
    assert np.array_equal(labels.numpy(), np.array(mask))

    pixels, labels = transforms.evaluation_sample(image, mask, IDENTITY, 64, whole=False)
    centre = reference.CenterCrop(64)
    assert np.abs(to_bytes(pixels) - centre(resized).permute(1, 2, 0).numpy()).max() < 1.01
    smaller = mask.resize(resized.shape[:0:-1], Image.Resampling.NEAREST)
    assert np.array_equal(labels.numpy(), np.array(centre(smaller)))


def test_normalisation() -> None:
    image = torch.arange(256, dtype=torch.uint8).repeat(3, 1, 1)
    expected = (image / 255 - torch.tensor(transforms.MEAN)[:, None, None]) / torch.tensor(
        transforms.STD
    )[:, None, None]
    assert torch.allclose(transforms.normalise(image), expected, atol=1e-6)
