"""Methods: which losses act on what. A small open set; the training loop asks only these fields.

A new method is a new entry of :data:`METHODS`; a new loss term is a new weight in
:class:`LossWeights` and its term in :mod:`dkd.losses.blockwise`.
"""

from dataclasses import dataclass, field, fields


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


LOSS_TERMS = tuple(f.name for f in fields(LossWeights))


@dataclass(frozen=True)
class Method:
    """How the model learns a step.

    Attributes:
        name: as written in a scenario.
        summary: one line for a person who chooses.
        weights: the loss weights of steps > 0. Step 0 has no teacher: its mBCE and AC weights
            are those of :data:`FIRST_STEP`, the same for every incremental method, so that
            methods share step 0's checkpoint (AC acts on detached features: it changes nothing
            but the auxiliary classifier).
        covers_seen_classes: the mBCE of a step > 0 covers all seen classes (old ones being
            background in the new images' labels) instead of the new classes only.
        joint: every class is learned at once, in a single step.
    """

    name: str
    summary: str
    weights: LossWeights = field(default_factory=LossWeights)
    covers_seen_classes: bool = False
    joint: bool = False


FIRST_STEP = LossWeights(kd=0.0, dkd_pos=0.0, dkd_neg=0.0)

METHODS: dict[str, Method] = {
    m.name: m
    for m in (
        Method("dkd", "decomposed knowledge distillation: learns new classes, keeps the old"),
        Method(
            "finetune",
            "trains on the new images alone: the lower bound, forgets",
            weights=LossWeights(kd=0.0, dkd_pos=0.0, dkd_neg=0.0, ac=0.0),
            covers_seen_classes=True,
        ),
        Method("joint", "all classes and images at once: the upper bound", joint=True),
    )
}
