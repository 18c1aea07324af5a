"""What logits are read as."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dkd.network.deeplab import Reading
from dkd.network.prediction import predict, predict_rows


@given(st.integers(0, 2**32 - 1))
def test_predictions_are_the_likeliest_class_above_one_half(seed: int) -> None:
    logits = torch.from_numpy(np.random.default_rng(seed).normal(-0.5, 1, (2, 5, 3, 4)))
    found = predict(logits)
    assert found.dtype == torch.uint8
    probabilities = logits.sigmoid().numpy()
    for n, y, x in np.ndindex(2, 3, 4):
        foreground = probabilities[n, 1:, y, x]
        best = int(foreground.argmax())
        assert found[n, y, x] == (best + 1 if foreground[best] > 0.5 else 0)


def test_one_half_is_background_and_the_auxiliary_channel_never_predicts() -> None:
    logits = torch.tensor([[9.0, 0.0, -1.0], [9.0, 0.1, 0.0]])[:, :, None, None]
    assert predict(logits).flatten().tolist() == [0, 1]


def test_classes_that_both_round_to_certainty_are_told_apart() -> None:
    assert predict(torch.tensor([0.0, 40.0, 50.0]).view(1, 3, 1, 1)).item() == 2


def test_the_last_channel_fits() -> None:
    logits = torch.full((1, 255, 1, 1), -5.0)
    logits[0, 254] = 5.0
    assert predict(logits).item() == 254


@pytest.mark.parametrize("align", [True, False])
@pytest.mark.parametrize("merged", [(), (0, 1, 2, 1)])
@pytest.mark.parametrize(
    ("small", "large"),
    [((9, 7), (301, 203)), ((3, 2), (5, 7)), ((6, 6), (6, 6)), ((12, 8), (5, 3))],
)
def test_rows_are_those_of_the_whole(
    small: tuple[int, int], large: tuple[int, int], merged: tuple[int, ...], align: bool
) -> None:
    logits = torch.randn(2, 4, *small, generator=torch.Generator().manual_seed(1))
    reading = Reading(align, merged)
    whole = predict(logits, large, reading=reading)
    parts = [
        predict_rows(logits, large, range(top, min(large[0], top + 4)), reading)
        for top in range(0, large[0], 4)
    ]
    assert len(whole.unique()) >= 2
    assert torch.equal(torch.cat(parts, dim=1), whole)
