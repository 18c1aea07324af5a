"""What the network's tests share."""

import pytest
import torch


@pytest.fixture(autouse=True)
def _seeded() -> None:
    """Random weights and images are the same every time."""
    torch.manual_seed(0)
