"""The stem's convolution of 12 channels beside that of 3."""

import pytest
import torch
from torch import nn

from dkd.network.backbones import Stem


@pytest.mark.parametrize("size", [(32, 32), (33, 30), (31, 35), (7, 8), (2, 2), (1, 1)], ids=str)
def test_it_is_the_same_convolution(size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    plain = nn.Conv2d(3, 8, 7, 2, 3, bias=False).double()
    stem = Stem(plain)
    images = torch.randn(2, 3, *size, dtype=torch.float64)
    expected = plain(images)
    torch.testing.assert_close(stem(images), expected)
    stem.unshuffled = True
    found = stem(images)
    assert found.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(stem(Stem.unshuffle(images)), expected)
    dy = torch.randn_like(expected)
    torch.testing.assert_close(
        torch.autograd.grad(found, stem.weight, dy), torch.autograd.grad(expected, plain.weight, dy)
    )


def test_images_are_converted_on_the_way() -> None:
    images = torch.randn(1, 3, 6, 6)
    found = Stem.unshuffle(images, torch.bfloat16)
    torch.testing.assert_close(found, Stem.unshuffle(images).bfloat16())
    assert found.shape == (1, 16, 6, 6)
    assert not found[:, 12:].any()
