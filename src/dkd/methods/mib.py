"""MiB: modelling the background for incremental learning (CVPR 2020, arXiv 2002.00718)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from dkd.methods.base import Batch, Method, group

if TYPE_CHECKING:
    from torch import Tensor, nn

    from dkd.losses.terms import Losses
    from dkd.network.deeplab import Output, Reading, SegmentationModel


class MiB(Method):
    """One softmax over background and classes, in which unlike backgrounds are made comparable.

    All weights learn at one rate at every step, and batch normalisation with them.
    """

    name = "mib"
    summary = "softmax with a background that stands for old or new classes; distils logits"
    weights: ClassVar[Mapping[str, float]] = {"ce": 1.0, "kd": 10.0}
    first_weights: ClassVar[Mapping[str, float]] = {"ce": 1.0}
    background_channel = True
    rates: ClassVar[Mapping[str, float]] = {"all": 1.0}

    @classmethod
    def grow(cls, teacher: SegmentationModel, new: int) -> SegmentationModel:
        """With a new head that shares the background's probability evenly."""
        import torch

        from dkd.losses import mib
        from dkd.network import deeplab

        student = deeplab.grow(teacher, new)
        background, head = student.head(0), student.head(-1)
        assert background.bias is not None
        assert head.bias is not None
        with torch.no_grad():
            weight, bias, shared = mib.new_head(
                background.weight.flatten(), background.bias[0], new
            )
            head.weight.copy_(weight[:, :, None, None])
            head.bias.copy_(bias)
            background.bias.copy_(shared)
        return student

    @property
    def old(self) -> int:
        """Channels before the step, the background's among them; 1 at the first."""
        return 1 if self.teacher is None else 1 + self.teacher.classes

    def groups(self) -> list[dict[str, Any]]:
        decay = self.given.scenario.training.weight_decay
        factor = self.factor("all") if self.given.step else 1.0
        return [group("all", [self.student], factor, decay)]

    def outputs(self, model: nn.Module, images: Tensor) -> tuple[Output, Output | None]:
        """What student and teacher give."""
        return self.plain_outputs(model, images)

    def loss(self, outputs: tuple[Output, Output | None], batch: Batch) -> Losses:
        """The terms of :mod:`dkd.losses.mib`."""
        from dkd.losses import mib

        student, teacher = outputs
        label, average = batch["label"], self.given.average
        void_counts = self.given.protocol.void_is_negative
        logits = full_size(student, label, self.student.reading)
        terms = {"ce": mib.cross_entropy(logits, label, self.old, void_counts, average)}
        if teacher is not None:
            theirs = full_size(teacher, label, self.student.reading)
            terms["kd"] = mib.distillation(logits, theirs, label, void_counts, average)
        return weighted(self.at, terms)


def weighted(weights: Mapping[str, float], terms: Mapping[str, Tensor]) -> Losses:
    """The weighted sum of terms, and those that have a weight."""
    from dkd.losses.terms import Losses

    found = {name: term for name, term in terms.items() if weights[name]}
    first = next(iter(terms.values()))
    total = sum((weights[name] * term for name, term in found.items()), first.new_zeros(()))
    return Losses(total, {name: term.detach() for name, term in found.items()})


def full_size(output: Output, label: Tensor, reading: Reading) -> Tensor:
    """A model's logits at the labels' resolution, ``N x A x H x W``."""
    from dkd.network.deeplab import upsample

    return upsample(output.logits, (label.shape[-2], label.shape[-1]), reading)
