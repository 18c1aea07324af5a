"""The terms of DKD's loss and what a loss gives; without torch, for the keys of steps."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class LossWeights:
    """Weights of the total loss (paper, eq. 9 and section 4.1). A weight of 0 drops the term.

    Attributes:
        mbce: binary cross-entropy of the classes that are labelled.
        kd: distillation of the old classes' logits at full resolution.
        dkd_pos: distillation of the positive logits at feature resolution.
        dkd_neg: distillation of the negative logits at feature resolution.
        ac: the auxiliary classifier's loss.
    """

    mbce: float = 1.0
    kd: float = 5.0
    dkd_pos: float = 5.0
    dkd_neg: float = 5.0
    ac: float = 1.0

    @property
    def distils(self) -> bool:
        """Whether a teacher is needed."""
        return bool(self.kd or self.dkd_pos or self.dkd_neg)


class Losses(NamedTuple):
    """The loss of a batch.

    Attributes:
        total: weighted sum of the terms, a scalar to call ``backward`` on.
        terms: each term by the name of its weight, unweighted and detached; a term of weight 0
            is left out.
    """

    total: "Tensor"
    terms: "dict[str, Tensor]"
