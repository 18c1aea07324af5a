"""How a scenario's steps are trained."""

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag

from dkd.scenario.strict_model import NUMBER, WORD, StrictModel, Weight

Precision = Literal["fp32", "bf16", "fp16"]
Schedule = Literal["poly", "warmup_poly"]


class FirstLater(StrictModel):
    """A learning rate for step 0 and one for every later step.

    Attributes:
        first: learning rate at step 0.
        later: learning rate at every later step.
    """

    first: Weight
    later: Weight

    def at(self, step: int) -> float:
        return self.first if step == 0 else self.later


PositiveWeight = Annotated[
    Annotated[Weight, Tag(NUMBER)] | Annotated[Literal["auto"], Tag(WORD)],
    Discriminator(lambda value: WORD if isinstance(value, str) else NUMBER),
]


class FirstLaterPositive(StrictModel):
    """A weight for step 0 and one for every later step.

    Attributes:
        first: weight of the positive term at step 0: a number, or ``auto``.
        later: the same at every later step: a number, or ``auto``. With null, the method's own.
    """

    first: PositiveWeight = 1
    later: PositiveWeight | None = None

    def at(self, step: int, own: float) -> float | Literal["auto"]:
        """The weight of a step.

        Args:
            step: counted from 0.
            own: the method's.
        """
        if step == 0:
            return self.first
        return own if self.later is None else self.later


class Training(StrictModel):
    """Optimisation and augmentation of a step.

    Attributes:
        epochs: passes over the step's images.
        batch_size: images of one optimiser step, over all ranks.
        crop: side of the square training crop, and short side of test images, in pixels.
        lr: learning rate of the backbone at the start of a step. ASPP and heads learn at ten times
            this rate, unless the method or ``rates`` says otherwise.
        rates: multiples of the backbone's rate by parameter group, at later steps, such as
            ``{new_head: 30}``. They replace the method's own.
        momentum: momentum of stochastic gradient descent (Nesterov).
        weight_decay: weight decay of stochastic gradient descent.
        schedule: how the rate falls over the iterations of a step; ``warmup_poly`` raises it first.
        pos_weight: weight of the positive term of the mBCE (multiple binary cross-entropy).
            ``auto`` gives each class its own, from 1 to 100: the square root of the ratio of
            pixels without the class to pixels with it, in the step's crops.
        memory_share: share of every batch that is drawn from the exemplar memory, at steps that
            have one. An epoch then shows each of the step's own images once, and exemplars as
            often as that takes. With null, all are mixed and each image is shown once.
        precision: autocast type on a GPU; a CPU always computes in fp32.
        loader_workers: loader processes per rank; 0 loads in the rank itself.
        save_interval: seconds between saves of the training state, from which a stopped step goes
            on.
    """

    class Epochs(StrictModel):
        """Passes over the images, at step 0 and at every later step.

        Attributes:
            first: passes over the images of step 0.
            later: passes over the images of every later step.
        """

        first: Annotated[int, Field(ge=1, le=1_000_000)]
        later: Annotated[int, Field(ge=1, le=1_000_000)]

        def at(self, step: int) -> int:
            return self.first if step == 0 else self.later

    epochs: Epochs
    batch_size: Annotated[int, Field(ge=1, le=65536)]
    crop: Annotated[int, Field(ge=16, le=4096)] = 512
    lr: FirstLater
    rates: dict[str, Weight] = {}
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    weight_decay: Annotated[float, Field(ge=0, le=1)] = 1e-4
    schedule: Schedule = "poly"
    pos_weight: FirstLaterPositive = FirstLaterPositive()
    memory_share: Annotated[float, Field(gt=0, lt=1)] | None = None
    precision: Precision = "bf16"
    loader_workers: Annotated[int, Field(ge=0, le=256)] = 4
    save_interval: Annotated[float, Field(gt=0, le=31_536_000)] = 300

    def at(self, step: int, *, memory: bool = False, pos_weight: float = 1.0) -> dict[str, Any]:
        """What a model is trained with at a step, as keys and checkpoints say it; the precision is
        another matter.

        Fields that were not there first are left out where they change nothing: so a step that was
        there before has the key that it had (as :meth:`dkd.scenario.network.Network.structure`).

        Args:
            step: counted from 0.
            memory: whether the step has an exemplar memory.
            pos_weight: the method's own, where ``pos_weight.later`` is null.
        """
        later = {
            "rates": self.rates if step else {},
            "memory_share": self.memory_share if memory else None,
        }
        return {
            "epochs": self.epochs.at(step),
            "batch_size": self.batch_size,
            "crop": self.crop,
            "lr": self.lr.at(step),
            "momentum": self.momentum,
            "weight_decay": self.weight_decay,
            "schedule": self.schedule,
            "pos_weight": self.pos_weight.at(step, pos_weight),
            **{field: value for field, value in later.items() if value},
        }
