"""Training that diverges: what is no longer finite is neither saved nor published."""

from collections.abc import Iterable

import torch
from torch import Tensor

from dkd.errors import UserError


def diverged(what: str, iteration: int) -> UserError:
    """What ends a training whose loss or weights are not finite."""
    return UserError(
        f"training.lr: {what} is no longer finite at iteration {iteration}; use a lower rate"
    )


def all_finite(tensors: Iterable[Tensor]) -> bool:
    """Whether no tensor holds a NaN or an infinity; waits for the device once."""
    found = [torch.isfinite(tensor).all() for tensor in tensors if tensor.is_floating_point()]
    return not found or bool(torch.stack(found).all())
