"""Sums and means of a batch that is divided among ranks.

A loss that is no plain mean over images (a quotient of sums, the direction of a sum) differs from
the mean of its values on the ranks' shares. It is made of averages over ranks instead: each is
the same number on every rank, while its gradient is that of the rank's own share. Averaged over
ranks, as DDP does, these gradients are the whole batch's.
"""

from collections.abc import Callable

from torch import Tensor

Average = Callable[[Tensor], Tensor]
"""Averages a tensor over ranks, without gradient."""


def averaged(share: Tensor, average: Average | None) -> Tensor:
    """The mean over ranks of each rank's ``share``; None stands for a single process."""
    if average is None:
        return share
    own = share.detach()
    return share + (average(own) - own)
