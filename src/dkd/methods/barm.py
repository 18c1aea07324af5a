"""BARM: the background adapted by residuals (ECCV 2024, ANDYZAQ/BARM)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, cast

from dkd.methods.base import HEAD_FACTOR, Batch, Circumstances, Method, group
from dkd.methods.mib import weighted

if TYPE_CHECKING:
    from torch import Tensor, nn

    from dkd.losses.terms import Losses
    from dkd.network.deeplab import Output, SegmentationModel
    from dkd.scenario.network import Network


class BARM(Method):
    """Every head has a map of its own, and a residual that takes its classes from the background.

    Labels of a step > 0 are completed by the teacher where it is sure. Only the new head learns
    from them (``bce``); the old ones keep what they say (``kd``), and their maps where the new
    images show background (``features``). The residual leaves the background alone where it is
    labelled (``triplet``), and takes it away where a new class is (``zero``).
    """

    name = "barm"
    summary = "sigmoids with a map for each head; residuals take new classes from the background"
    weights: ClassVar[Mapping[str, float]] = {
        "bce": 1.0,
        "triplet": 5.0,
        "features": 4.0,
        "kd": 1.0,
        "zero": 1.0,
    }
    first_weights: ClassVar[Mapping[str, float]] = {"bce": 1.0}
    background_channel = True
    own_maps = True
    rates: ClassVar[Mapping[str, float]] = {
        "backbone": 1.0,
        "aspp": HEAD_FACTOR,
        "old_heads": 1.0,
        "new_head": HEAD_FACTOR,
    }

    @classmethod
    def build(cls, network: Network, classes: int) -> SegmentationModel:
        """With a map for the first head."""
        from dkd.network import deeplab

        return deeplab.build(network, [classes], own_maps=True)

    @classmethod
    def grow(cls, teacher: SegmentationModel, new: int) -> SegmentationModel:
        """With a map that starts as the last head's, and a head and residual drawn at random."""
        import copy

        from torch.nn import Conv2d, init

        student = super().grow(teacher, new)
        student.own_maps.append(copy.deepcopy(student.own_maps[-1]))
        student.residuals.append(Conv2d(student.head(-1).in_channels, 1, 1))
        student.cls[-1] = Conv2d(student.head(-1).in_channels, new, 1)
        for drawn in (student.head(-1), student.residuals[-1]):
            init.kaiming_normal_(cast("Tensor", drawn.weight))
        return student

    def __init__(
        self, student: SegmentationModel, teacher: SegmentationModel | None, given: Circumstances
    ) -> None:
        super().__init__(student, teacher, given)
        self._old = 1 if teacher is None else 1 + teacher.classes
        if teacher is not None and given.scenario.protocol == "paper":
            # The program copies the map's weights but not its running statistics.
            cast("Any", student.own_maps[-1].get_submodule("1")).reset_running_stats()

    def groups(self) -> list[dict[str, Any]]:
        model, decay = self.student, self.given.scenario.training.weight_decay
        *old, new = zip(model.cls[1:], model.own_maps, strict=True)
        *old_residuals, residual = (None, *model.residuals)
        parts: dict[str, list[nn.Module | None]] = {
            "backbone": [model.backbone],
            "aspp": [model.aspp],
            "old_heads": [*(part for head in old for part in head), *old_residuals],
            "new_head": [*new, residual],
        }
        parts["old_heads" if old else "new_head"].append(model.cls[0])
        return [
            group(
                name,
                [module for module in modules if module is not None],
                self.factor(name) if self.given.step else self.rates[name],
                decay,
            )
            for name, modules in parts.items()
        ]

    def outputs(self, model: nn.Module, images: Tensor) -> tuple[Output, Output | None]:
        """What student and teacher give."""
        return self.plain_outputs(model, images)

    def loss(self, outputs: tuple[Output, Output | None], batch: Batch) -> Losses:
        """The terms of :mod:`dkd.losses.barm`."""
        from dkd.data.channels import void_of
        from dkd.losses import barm
        from dkd.network.deeplab import upsample

        student, teacher = outputs
        label, average, reading = batch["label"], self.given.average, self.student.reading
        size = (label.shape[-2], label.shape[-1])
        heads = self._heads(student, self.student.counts)
        logits = upsample(barm.learned(heads), size, reading)
        if teacher is None:
            return weighted(self.at, {"bce": barm.cross_entropy(logits, label, average)})
        theirs = self._heads(teacher, self.student.counts[:-1])
        sure = upsample(barm.seen(theirs), size, reading)
        cells = barm.nearest(label, (student.features.shape[-2], student.features.shape[-1]))
        background, labelled = cells == 0, (cells >= self._old) & (cells < void_of(label))
        residual, steps = heads[-1][:, 0], len(heads)
        terms = {
            "bce": barm.cross_entropy(logits, barm.pseudo_label(sure, label), average),
            "triplet": barm.background_triplet(residual, background, average),
            "features": barm.feature_distillation(
                student.features.chunk(steps, 1)[:-1],
                teacher.features.chunk(steps - 1, 1),
                background,
            ),
            "kd": barm.group_distillation(heads[:-1], theirs),
            "zero": barm.background_zero(residual, labelled, average),
        }
        return weighted(self.at, terms)

    @staticmethod
    def _heads(output: Output, counts: tuple[int, ...]) -> list[Tensor]:
        """Each head's logits, ``N x (1 + n_k) x h x w``: background's or its residual first."""
        import torch

        later = len(counts) - 1
        first, *classes, residuals = torch.split(output.logits, [1, *counts, later], dim=1)
        backgrounds = [first, *(residuals[:, k : k + 1] for k in range(later))]
        return [torch.cat(pair, 1) for pair in zip(backgrounds, classes, strict=True)]
