"""Decomposed knowledge distillation (arXiv 2210.05941)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, ClassVar

from dkd.losses.terms import LossWeights
from dkd.methods.base import HEAD_FACTOR, Batch, Circumstances, Method, Walk, group, summed

if TYPE_CHECKING:
    from torch import Tensor, nn

    from dkd.losses.terms import Losses
    from dkd.network.deeplab import Output, SegmentationModel
    from dkd.scenario.schema import Scenario


class DKD(Method):
    """Learns the labelled classes, and distils the old ones' logits whole and decomposed.

    Step 0 learns its classes and the auxiliary classifier, which acts on detached features and
    changes nothing else. The same step 0 serves :class:`~dkd.methods.finetune.Finetune`.
    """

    name = "dkd"
    summary = "decomposed knowledge distillation: learns new classes, keeps the old"
    weights: ClassVar[Mapping[str, float]] = asdict(LossWeights())
    first_weights: ClassVar[Mapping[str, float]] = asdict(
        LossWeights(kd=0.0, dkd_pos=0.0, dkd_neg=0.0)
    )

    rates: ClassVar[Mapping[str, float]] = {
        "backbone": 1.0,
        "aspp": HEAD_FACTOR,
        "auxiliary": HEAD_FACTOR,
        "old_heads": HEAD_FACTOR,
        "new_head": HEAD_FACTOR,
    }

    @classmethod
    def key(cls, scenario: Scenario, step: int) -> dict[str, Any]:
        """Options alone: loss weights and covered classes say it all, and step 0 is shared."""
        return cls.options_key(scenario, step)

    def __init__(
        self, student: SegmentationModel, teacher: SegmentationModel | None, given: Circumstances
    ) -> None:
        super().__init__(student, teacher, given)
        self._weights = LossWeights(**{term: self.at[term] for term in asdict(LossWeights())})
        self._old = 0 if teacher is None else teacher.classes
        first = 1 if given.step == 0 or self.covers_seen_classes else 1 + self._old
        self._covers = range(first, 1 + student.classes)
        weight = given.scenario.training.pos_weight.at(given.step, self.pos_weight)
        self._pos_weight: float | Tensor | None = None if weight == "auto" else weight

    @property
    def played(self) -> Sequence[SegmentationModel]:
        return super().played if self._weights.distils else [self.student]

    def groups(self) -> list[dict[str, Any]]:
        """Weight decay acts on everything at step 0, later on the new head alone: what the old
        classes stand on is not pulled towards 0 when no image shows them. The auxiliary
        classifier is left out where no term of the loss teaches it.
        """
        model, decay = self.student, self.given.scenario.training.weight_decay
        kept = 0.0 if self.given.step else decay
        auxiliary, *old, new = model.cls
        parts: dict[str, list[nn.Module]] = {
            "backbone": [model.backbone],
            "aspp": [model.aspp],
            "auxiliary": [auxiliary] if self._weights.ac else [],
            "old_heads": old,
            "new_head": [new],
        }
        return [
            group(
                name,
                modules,
                self.factor(name) if self.given.step else DKD.rates[name],
                decay if name == "new_head" else kept,
            )
            for name, modules in parts.items()
        ]

    def begin(self, walk: Walk) -> None:
        """Counts the labels' pixels where ``pos_weight`` is to follow from them."""
        if self._pos_weight is None:
            self._pos_weight = self._balance(walk)

    def _balance(self, walk: Walk) -> Tensor:
        """The weight of each channel's positive term, ``1 + K``, on the device."""
        import torch

        from dkd.data.channels import void_of

        channels = 1 + self.student.classes

        def each() -> Iterator[tuple[Tensor, Tensor]]:
            for _, batch in walk(None):
                label, covered = batch["label"].flatten(), batch["covered"][0]
                known = label != void_of(label)
                every = self.given.protocol.void_is_negative
                pixels = label.numel() if every else known.sum()
                shown = label[known].long().bincount(minlength=channels)[1:]
                yield shown * covered, pixels * covered.long()

        shown, pixels = (counts.double() for counts in summed(each(), self.given.gather))
        weights = torch.ones(channels)
        weights[1:] = torch.where(shown > 0, (pixels - shown) / shown, 1).sqrt().clamp(1, 100)
        return weights.to(self.student.head(0).weight)

    def outputs(self, model: nn.Module, images: Tensor) -> tuple[Output, Output | None]:
        """What student and teacher give, decomposed for the classes that are distilled."""
        import torch

        if self.teacher is None or not self._weights.distils:
            return model(images), None
        student = model(images, decomposed=self._old)
        with torch.no_grad():
            return student, self.teacher(images, decomposed=self._old)

    def loss(self, outputs: tuple[Output, Output | None], batch: Batch) -> Losses:
        """All terms that have a weight (:mod:`dkd.losses.blockwise`)."""
        return self._total(*outputs, batch, self._weights)

    def _total(
        self, student: Output, teacher: Output | None, batch: Batch, weights: LossWeights
    ) -> Losses:
        from dkd.losses import blockwise, reference

        given, speed = self.given, self.given.speed
        assert self._pos_weight is not None, "begin, which finds it, was called"
        common: dict[str, Any] = {
            "weights": weights,
            "covers": self._covers,
            "covered": batch["covered"] if given.images_differ else None,
            "pos_weight": self._pos_weight,
            "void_is_negative": given.protocol.void_is_negative,
            "average": given.average,
            "reading": self.student.reading,
        }
        if not speed.block_losses:
            return reference.total(student, teacher, batch["label"], **common)
        fused = bool(speed.triton_losses)
        return blockwise.total(student, teacher, batch["label"], **common, fused=fused)
