"""The arithmetic of a batch on the device; whole batches are compared in test_loading.py."""

import numpy as np
import torch
from PIL import Image

from dkd.data.on_device import beside, collate, resizing


def test_regions_are_padded_at_the_bottom_and_right() -> None:
    items = [
        {
            "pixels": torch.full((3, h, w), 7, dtype=torch.uint8),
            "label": torch.full((h, w), 5, dtype=torch.uint8),
            "flip": flip,
            "covered": torch.tensor([True]),
            "id": f"{h}",
        }
        for h, w, flip in ((2, 5, False), (4, 3, True))
    ]
    batch = collate(items)
    assert batch["pixels"].shape == (2, 3, 4, 5)
    assert batch["size"].tolist() == [[2, 5], [4, 3]]
    assert batch["label"].bool().sum((1, 2)).tolist() == [10, 12]
    assert not batch["label"][0, 2:].any()
    assert batch["flip"].tolist() == [False, True]


def test_resizing_is_pillows() -> None:
    """To the rounding of 8 bits: Pillow's bilinear filter, antialiased where it shrinks."""
    rng = np.random.default_rng(0)
    for size, crop in ((40, 16), (11, 16), (16, 16)):
        row = rng.integers(0, 256, (1, size), dtype=np.uint8)
        expected = np.asarray(Image.fromarray(row).resize((crop, 1), Image.Resampling.BILINEAR))
        matrix = resizing(torch.tensor([[size]]), 50, crop)[0]
        torch.testing.assert_close(matrix.sum(1), torch.ones(crop))
        assert not matrix[:, size:].any()
        found = matrix[:, :size] @ torch.tensor(row[0]).float()
        assert (found - torch.tensor(expected[0]).float()).abs().max() <= 1


def test_on_a_cpu_batches_are_finished_one_by_one() -> None:
    batches = [{"x": 1}, {"x": 2}]
    done = beside(batches, lambda b: {"x": b["x"] * 10}, torch.device("cpu"))
    assert list(done) == [{"x": 10}, {"x": 20}]
