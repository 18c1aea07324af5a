"""A method as one object: student, teacher and loss, and all that the training asks of them.

The class says what a step's key is made of (name, loss weights, options) and imports no torch;
an instance is one step's on one rank and computes. To add a method, write a class beside
:class:`dkd.methods.dkd.DKD` that gives at least ``name``, ``summary``, ``weights`` and
:meth:`Method.loss`.
"""

from __future__ import annotations

import operator
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from dkd.errors import UserError
from dkd.scenario.protocols import PROTOCOLS, Protocol
from dkd.scenario.schema import Scenario
from dkd.scenario.speed import Speed
from dkd.scenario.strict_model import StrictModel, parse_part

if TYPE_CHECKING:
    from torch import Tensor, nn

    from dkd.losses.terms import Losses
    from dkd.network.deeplab import Output, SegmentationModel
    from dkd.scenario.network import Network

HEAD_FACTOR = 10.0
"""ASPP and the heads learn this many times as fast as the backbone, as in the released program."""


@dataclass(frozen=True)
class Circumstances:
    """All that an instance of a method is told beside its models.

    Attributes:
        scenario: checked by :meth:`Method.check`.
        step: counted from 0.
        images_differ: labels of some images cover other classes than those of the rest: the
            memory's when it keeps its old labels.
        speed: decided switches.
        average: the mean of a tensor over the ranks, on the ranks' device.
        gather: every rank's value, in rank order, on every rank; see :func:`summed`.
        rank: this process.
        world_size: number of processes.
        statistics: what the method of the step before returned from :meth:`Method.finish`, on
            the CPU; empty where that was nothing.
    """

    scenario: Scenario
    step: int
    images_differ: bool
    speed: Speed
    average: Callable[[Tensor], Tensor]
    gather: Callable[[Any], list[Any]]
    rank: int = 0
    world_size: int = 1
    statistics: Mapping[str, Tensor] = field(default_factory=dict)

    @property
    def protocol(self) -> Protocol:
        return PROTOCOLS[self.scenario.protocol]


Batch = Mapping[str, Any]
"""``image`` float N x 3 x H x W as prepared models take it, ``label`` N x H x W in channel
numbers (:mod:`dkd.data.channels`), ``covered`` bool N x K, ``id`` N names; on the rank's device. In
training ``iteration`` too, counted from 0: what is drawn at random follows from it.
"""

Walk = Callable[["SegmentationModel | None"], "Iterator[tuple[Any, Batch]]"]
"""One pass over an epoch of the step's images (augmented crops, this rank's share), one image at a
time: the :class:`~dkd.network.deeplab.Output` that the model gives for it, in eval mode, without
gradients and in training's precision, and a batch of it alone; None where no model is named. What
a model gives for an image of a larger batch depends in its last bits on the batch's size, and so on
the number of ranks.
"""


class Options(StrictModel):
    """What ``method_options`` may say with every method.

    Attributes:
        fuse: after a step > 0 the new model's weights are fused with the teacher's (EWF,
            :mod:`dkd.network.fusion`); heads of old classes learn nothing meanwhile.
    """

    fuse: bool = False


class Method(ABC):
    """How the model learns a step.

    Attributes:
        name: as written in a scenario.
        summary: one line for a person who chooses.
        weights: weight by loss term at steps > 0; ``losses`` of a scenario replaces them.
        first_weights: likewise at step 0, which has no teacher. What has no weight there is not
            replaced: step 0 is shared by whatever differs later.
        covers_seen_classes: the labels of a step > 0 speak for all seen classes (old ones being
            background in the new images) instead of for the new ones only.
        joint: every class is learned at once, in a single step.
        background_channel: head 0 is the background's, of a softmax over all channels or of
            sigmoids that are read alike, instead of the auxiliary classifier.
        own_maps: every head reads a map of its own.
        remembers: :meth:`finish` gives statistics, and a later step cannot begin without them.
        options: what ``method_options`` of a scenario may say; fields that change the result.
        pos_weight: weight of the mBCE's positive term at steps > 0 where
            ``training.pos_weight.later`` of a scenario is null.
        rates: how many times the backbone's rate a part learns at steps > 0, by the name of its
            group; ``training.rates`` of a scenario replaces them.
        student: model of this step, on its device and prepared when training begins.
        teacher: the previous step's model, frozen; None at step 0.
        given: what else it is told.
        at: the loss weights in force.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    weights: ClassVar[Mapping[str, float]]
    first_weights: ClassVar[Mapping[str, float]]
    covers_seen_classes: ClassVar[bool] = False
    joint: ClassVar[bool] = False
    background_channel: ClassVar[bool] = False
    own_maps: ClassVar[bool] = False
    remembers: ClassVar[bool] = False
    options: ClassVar[type[Options]] = Options
    pos_weight: ClassVar[float] = 1.0
    rates: ClassVar[Mapping[str, float]] = {}

    # ---- what is known before anything is trained: no torch

    @classmethod
    def check(cls, scenario: Scenario) -> None:
        """Refuses what this method cannot do; called before anything runs.

        Raises:
            UserError: an unknown loss term or part, or a bad option.
        """
        terms = cls.weights.keys() | cls.first_weights.keys()
        if unknown := scenario.losses.keys() - terms:
            known = ", ".join([*cls.weights, *(cls.first_weights.keys() - cls.weights.keys())])
            raise UserError(f"losses.{min(unknown)}: no such loss; there are {known}")
        if unknown := scenario.training.rates.keys() - cls.rates.keys():
            known = ", ".join(cls.rates) or "none"
            raise UserError(
                f"training.rates.{min(unknown)}: no such part of {cls.name}; there are {known}"
            )
        fields = cls.options.model_fields
        if unknown := scenario.method_options.keys() - fields.keys():
            known = ", ".join(fields) or "none"
            raise UserError(
                f"method_options.{min(unknown)}: no such option of {cls.name}; there are {known}"
            )
        cls.chosen(scenario)

    @classmethod
    def chosen(cls, scenario: Scenario) -> Any:
        """The scenario's options of this method, an instance of :attr:`options`."""
        return parse_part(cls.options, scenario.method_options, "", within="method_options")

    @classmethod
    def check_teacher(
        cls, scenario: Scenario, description: Mapping[str, Any], statistics: bool
    ) -> None:
        """Refuses a teacher from which this method cannot go on; called before anything runs.

        Args:
            scenario: the step's.
            description: the teacher's ``checkpoint.json``.
            statistics: whether the teacher has any.

        Raises:
            UserError: what is wrong with it, and what to do.
        """
        by = description.get("method") or "another method"
        if bool(description.get("background_channel")) != cls.background_channel:
            has, wants = "a background channel", "an auxiliary classifier"
            if cls.background_channel:
                has, wants = wants, has
            raise UserError(
                f"was trained by {by} with {has}, but method {cls.name} needs {wants}; "
                "name a teacher of its own"
            )
        if bool(description.get("own_maps")) != cls.own_maps:
            has = "no map" if cls.own_maps else "a map"
            raise UserError(
                f"was trained by {by} with {has} for each head, unlike method {cls.name}; "
                "name a teacher of its own"
            )
        if cls.remembers and not statistics:
            raise UserError(
                f"was trained by {by} and keeps no statistics, which method {cls.name} needs; "
                f"name a teacher of its own"
            )

    @classmethod
    def weights_at(cls, step: int, losses: Mapping[str, float]) -> dict[str, float]:
        """The loss weights in force at a step, by term.

        Args:
            step: counted from 0.
            losses: the scenario's, which replace the method's.
        """
        base = cls.weights if step else cls.first_weights
        changed = {term: w for term, w in losses.items() if step or base.get(term)}
        return {term: float(w) for term, w in {**base, **changed}.items()}

    @classmethod
    def key(cls, scenario: Scenario, step: int) -> dict[str, Any]:
        """What of the method a step's key holds, beside loss weights and covered classes."""
        return {"method": cls.name, **cls.options_key(scenario, step)}

    @classmethod
    def options_key(cls, scenario: Scenario, step: int) -> dict[str, Any]:
        """The part of :meth:`key` that options are; nothing where they are the defaults."""
        left_out = set() if step else {"fuse"}  # of later steps
        chosen = cls.chosen(scenario).model_dump(
            mode="json", exclude_defaults=True, exclude=left_out
        )
        return {"method_options": chosen} if chosen else {}

    @classmethod
    def build(cls, network: Network, classes: int) -> SegmentationModel:
        """The student of step 0, as it starts but for the backbone's initial weights.

        Args:
            network: backbone and width.
            classes: of the step.
        """
        from dkd.network import deeplab

        return deeplab.build(network, [classes])

    @classmethod
    def grow(cls, teacher: SegmentationModel, new: int) -> SegmentationModel:
        """The student of a step > 0, as it starts.

        Args:
            teacher: model of the step before; it stays as it is.
            new: number of new classes.
        """
        from dkd.network import deeplab

        student = deeplab.grow(teacher, new)
        deeplab.freeze_for_later_step(student)
        return student

    # ---- one step on one rank

    def __init__(
        self, student: SegmentationModel, teacher: SegmentationModel | None, given: Circumstances
    ) -> None:
        self.student, self.teacher, self.given = student, teacher, given
        self.at = self.weights_at(given.step, given.scenario.losses)
        student.background_channel = self.background_channel
        self._unfused: dict[str, Tensor] = {}
        if teacher is not None and self.chosen(given.scenario).fuse:
            # Before it is prepared, which changes what it consists of.
            self._unfused = {n: t.detach().clone() for n, t in teacher.state_dict().items()}
            for head in student.cls[0 if self.background_channel else 1 : -1]:
                head.requires_grad_(False)

    @property
    def frozen(self) -> Sequence[SegmentationModel]:
        """The models beside the student, to be put on the device and prepared."""
        return [] if self.teacher is None else [self.teacher]

    @property
    def played(self) -> Sequence[SegmentationModel]:
        """The models whose passes may be recorded and played: those that :meth:`outputs` calls,
        in that order. Empty if it needs more of a pass than backbone, ASPP and heads give.
        """
        return [self.student, *self.frozen]

    def factor(self, name: str) -> float:
        """How many times the backbone's rate a part of :attr:`rates` learns at this step > 0."""
        return self.given.scenario.training.rates.get(name, self.rates[name])

    @abstractmethod
    def groups(self) -> list[dict[str, Any]]:
        """What is optimised, as torch's parameter groups, made by :func:`group`."""

    def begin(self, walk: Walk) -> None:  # noqa: B027  # most methods have nothing to do
        """Called on all ranks before the first iteration, at a resumption too. All that it works
        out must follow from teacher, statistics and images, so that it is the same again.
        """

    @abstractmethod
    def outputs(self, model: nn.Module, images: Tensor) -> Any:
        """The passes of an iteration, under autocast.

        Args:
            model: the student, to be called as it is here: wrapped where there are several ranks.
            images: ``N x 3 x H x W``, as prepared models take them.
        """

    def plain_outputs(self, model: nn.Module, images: Tensor) -> tuple[Output, Output | None]:
        """What student and teacher give, the teacher's without gradients; see :meth:`outputs`."""
        import torch

        if self.teacher is None:
            return model(images), None
        with torch.no_grad():
            theirs = self.teacher(images)
        return model(images), theirs

    @abstractmethod
    def loss(self, outputs: Any, batch: Batch) -> Losses:
        """The loss of a batch, from what :meth:`outputs` gave; not under autocast."""

    def fuse(self) -> None:
        """Called after the last iteration; fuses the student's weights if the options say so."""
        from dkd.network import fusion

        if self._unfused:
            share = fusion.new_share(self.student.counts[-1], 1 + self.student.classes)
            after = self.student.state_dict()
            self.student.load_state_dict(fusion.fused(self._unfused, after, share))

    def finish(self, walk: Walk) -> Mapping[str, Tensor]:
        """Called on all ranks when the model is as it stays; leaves it so.

        Returns:
            What the next step's method needs to know beside the model, the same on every rank
            and for any number of ranks: it is a part of the checkpoint and so of later keys.
        """
        return {}


def group(
    name: str, modules: Iterable[nn.Module], factor: float, weight_decay: float
) -> dict[str, Any]:
    """A parameter group of what learns in some modules.

    Args:
        name: for people.
        modules: any.
        factor: its rate is so many times the backbone's.
        weight_decay: its own.
    """
    parameters = [p for module in modules for p in module.parameters() if p.requires_grad]
    return {"name": name, "params": parameters, "factor": factor, "weight_decay": weight_decay}


def summed(
    each: Iterable[Sequence[Tensor]], gather: Callable[[Any], list[Any]]
) -> tuple[Tensor, ...]:
    """Sums over every image of a :data:`Walk`: the same bits whatever the number of ranks.

    Every rank has as many images as the others; they are added in the epoch's order.

    Args:
        each: tensors for each image that this rank walked over.
        gather: :attr:`Circumstances.gather`.

    Returns:
        The sums, on the CPU.
    """
    totals: tuple[Tensor, ...] = ()
    for own in each:
        for part in gather(tuple(tensor.cpu() for tensor in own)):
            totals = tuple(map(operator.add, totals, part)) if totals else part
    return totals
