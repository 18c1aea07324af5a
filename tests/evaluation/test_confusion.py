"""The confusion matrix: every pixel counted once, on however many ranks."""

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from dkd.evaluation.confusion import ConfusionMatrix
from dkd.scenario.tasks import VOID


@given(st.integers(1, 5), st.integers(0, 2**32 - 1), st.integers(1, 4))
def test_the_matrix_counts_pixels_and_ranks_add_up(classes: int, seed: int, ranks: int) -> None:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes + 2, (6, 5, 4))
    labels[labels == classes + 1] = VOID
    predictions = rng.integers(0, classes + 1, (6, 5, 4))
    expected = np.zeros((classes + 1, classes + 1), dtype=np.int64)
    for label, prediction in zip(labels.flat, predictions.flat, strict=True):
        if label != VOID:
            expected[label, prediction] += 1
    shares = []
    for rank in range(ranks):
        share = ConfusionMatrix(
            classes + 1, add_up=lambda counts: counts + sum(s.counts for s in shares[1:])
        )
        for image in range(rank, 6, ranks):
            share.add(
                torch.tensor(predictions[image], dtype=torch.uint8),
                torch.tensor(labels[image], dtype=torch.uint8),
            )
        shares.append(share)
    total = shares[0].result()
    assert total.dtype == torch.int64
    np.testing.assert_array_equal(total.numpy(), expected)
    shares[0].reset()
    assert not shares[0].counts.any()
