"""What is no longer finite."""

import pytest
import torch

from dkd.training.divergence import all_finite, diverged


@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
def test_one_bad_number_is_found(value: str) -> None:
    tensors = [torch.zeros(3), torch.tensor([1, 2]), torch.zeros(2, 2)]
    assert all_finite(tensors)
    tensors[2][1, 0] = float(value)
    assert not all_finite(tensors)


def test_nothing_and_whole_numbers_are_finite() -> None:
    assert all_finite([])
    assert all_finite([torch.tensor([1])])


def test_the_message_says_what_to_do() -> None:
    assert str(diverged("the loss", 7)) == (
        "training.lr: the loss is no longer finite at iteration 7; use a lower rate"
    )
