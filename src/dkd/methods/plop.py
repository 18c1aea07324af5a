"""PLOP: learning without forgetting for segmentation (CVPR 2021, arXiv 2011.11390)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from dkd.methods import base
from dkd.methods.base import Batch, Circumstances, Walk, summed
from dkd.methods.mib import MiB, full_size, weighted

if TYPE_CHECKING:
    from torch import Tensor, nn

    from dkd.losses.terms import Losses
    from dkd.network.deeplab import Output, SegmentationModel


class Options(base.Options):
    """How much maps are kept alike. The defaults are VOC's.

    Attributes:
        pod: of the backbone's stages and the features; 0.001 for ADE20K.
        pod_logits: of the logits; 0.00001 for ADE20K.
    """

    pod: float = 0.01
    pod_logits: float = 0.0005


class Maps(NamedTuple):
    """What a model gives.

    Attributes:
        output: as ever.
        stages: of its backbone, ``N x C x h x w`` each.
    """

    output: Output
    stages: list[Tensor]


class PLOP(MiB):
    """MiB's network and start; labels from the teacher where it is sure, and local POD.

    ``protocol: paper`` takes thresholds and strips as the program does; ``corrected`` takes the
    medians of entropies from 0 to 1, and every row.
    """

    name = "plop"
    summary = "softmax with the teacher's labels where it is sure; keeps maps of all stages alike"
    weights: ClassVar[Mapping[str, float]] = {"ce": 1.0, "pod": 1.0}
    options = Options

    def __init__(
        self, student: SegmentationModel, teacher: SegmentationModel | None, given: Circumstances
    ) -> None:
        super().__init__(student, teacher, given)
        from dkd.network.backbones import watch_stages

        self._as_program = given.scenario.protocol == "paper"
        self._maps: dict[SegmentationModel, list[Tensor]] = {}
        for model in (student, *self.frozen) if teacher is not None else ():
            self._maps[model] = []
            watch_stages(model.backbone, self._maps[model].append)

    @property
    def played(self) -> Sequence[SegmentationModel]:
        """None: recordings do not give what the stages do."""
        return []

    def begin(self, walk: Walk) -> None:
        """Finds how sure the teacher must be of each class: one pass over the images."""
        if self.teacher is None:
            return
        from dkd.losses import plop

        channels = 1 + self.student.classes

        def each() -> Iterator[tuple[Tensor]]:
            for output, batch in walk(self.frozen[0]):
                self._maps[self.frozen[0]].clear()
                sure = full_size(output, batch["label"], self.student.reading).softmax(1)
                unsure = plop.entropy(sure, channels, self._as_program)
                yield (plop.histogram(unsure, sure.argmax(1), batch["label"], channels),)

        (histograms,) = summed(each(), self.given.gather)
        limits = plop.thresholds(histograms, self._as_program)
        self._limits = limits.to(self.frozen[0].head(0).weight.device)

    def outputs(self, model: nn.Module, images: Tensor) -> tuple[Any, Any]:
        """What student and teacher give, their stages' maps too."""
        if self.teacher is None:
            return super().outputs(model, images)
        for maps in self._maps.values():
            maps.clear()
        student, teacher = super().outputs(model, images)
        assert teacher is not None, "there is one"
        ours, theirs = (list(self._maps[each]) for each in (self.student, self.frozen[0]))
        return Maps(student, ours), Maps(teacher, theirs)

    def loss(self, outputs: tuple[Any, Any], batch: Batch) -> Losses:
        """The terms of :mod:`dkd.losses.plop`; at the first step plain cross-entropy."""
        if self.teacher is None:
            return super().loss(outputs, batch)
        from dkd.losses import plop

        student, teacher = outputs
        label, chosen = batch["label"], self.chosen(self.given.scenario)
        channels, new = 1 + self.student.classes, self.student.counts[-1]
        sure = full_size(teacher.output, label, self.student.reading).softmax(1)
        unsure = plop.entropy(sure, channels, self._as_program)
        pseudo = plop.pseudo_labels(sure, unsure, label, self._limits)
        logits = full_size(student.output, label, self.student.reading)
        ours = [*student.stages, student.output.features]
        ours.append(plop.folded(student.output.logits, self.old))
        theirs = [*teacher.stages, teacher.output.features, teacher.output.logits]
        scale = math.sqrt(channels / new)
        factors = [*[scale * chosen.pod] * (len(ours) - 1), scale * chosen.pod_logits]
        ours, theirs = ([_wide(tensor) for tensor in maps] for maps in (ours, theirs))
        terms = {
            "ce": plop.cross_entropy(logits, pseudo, self.given.average),
            "pod": plop.pod(ours, theirs, factors, self._as_program),
        }
        return weighted(self.at, terms)


def _wide(x: Tensor) -> Tensor:
    """At least in float32: squares of a map leave a smaller type's range."""
    import torch

    return x.float() if x.dtype in (torch.bfloat16, torch.float16) else x
