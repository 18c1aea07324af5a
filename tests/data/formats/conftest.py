"""Reading whole data sets, and making the small one that every format is compared on."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from dkd.data import contents
from dkd.data.index import Dataset

Masks = dict[str, np.ndarray]


@pytest.fixture
def masks_of() -> Callable[[Dataset], dict[str, Masks]]:
    """Every mask of a data set by split and id, as training reads it."""

    def read(dataset: Dataset) -> dict[str, Masks]:
        return {
            split: {
                record.id: np.asarray(
                    contents.decode(
                        Path(dataset.root), record, *contents.read(Path(dataset.root), record)
                    )[1]
                )
                for record in records
            }
            for split, records in dataset.splits.items()
        }

    return read


@pytest.fixture
def labels() -> dict[str, Masks]:
    """Masks of two classes: discs, a ring with a hole, single pixels, all four edges, nothing."""
    y, x = np.mgrid[:24, :32]
    disc = (y - 10) ** 2 + (x - 8) ** 2
    ring = np.where((disc <= 64) & (disc > 16), 1, 0)
    edges = np.zeros((24, 32), int)
    edges[[0, -1]], edges[:, [0, -1]], edges[12, 12] = 2, 1, 2
    both = np.where((y - 14) ** 2 + (x - 20) ** 2 <= 50, 2, ring)
    return {
        "train": {"one": ring.astype(np.uint8), "two": edges.astype(np.uint8)},
        "validation": {"three": both.astype(np.uint8), "four": np.zeros((24, 32), np.uint8)},
    }
