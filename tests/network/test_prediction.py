"""What logits are read as."""

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from dkd.network.prediction import predict


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
