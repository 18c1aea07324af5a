"""STAR: saving space by replaying old classes' statistics (NeurIPS 2023; TPAMI 2025)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from dkd.errors import UserError
from dkd.losses.terms import LossWeights
from dkd.methods import base
from dkd.methods.base import Batch, Walk, summed
from dkd.methods.dkd import DKD

if TYPE_CHECKING:
    from torch import Tensor, nn

    from dkd.losses.star import Counting, ReplayCounts
    from dkd.losses.terms import Losses
    from dkd.network.deeplab import Output, Reading, SegmentationModel
    from dkd.scenario.schema import Scenario

_NO_TERM = LossWeights(mbce=0.0, kd=0.0, dkd_pos=0.0, dkd_neg=0.0, ac=0.0)


class Options(base.Options):
    """What STAR replays.

    Attributes:
        variant: ``full`` draws directions channel by channel, and lengths: 2 C + 3 numbers are
            kept of a class of C channels. ``basic`` (journal) turns prototypes by random angles:
            C + 2 numbers. ``lite`` (journal) keeps counts alone, and derives prototypes from the
            teacher's heads and the new images.
        counting: how much of it (:func:`dkd.losses.star.counted`). By default ``full`` follows
            the setting under ``protocol: paper``; all else counts as the journal does, which
            guesses nothing about the data.
        lite_iterations: of ``lite``'s derivation.
    """

    variant: Literal["full", "basic", "lite"] = "full"
    counting: Literal["overlap", "disjoint", "journal"] | None = None
    lite_iterations: int = 500_000


@dataclass(frozen=True)
class Replay:
    """What a step replays.

    Attributes:
        tables: of the old classes, by name, on the device.
        rows: of the tables, one for each feature of a batch.
        counts: how often, and what the next step reads.
    """

    tables: Mapping[str, Tensor]
    rows: Tensor
    counts: ReplayCounts


class STAR(DKD):
    """Old classes are replayed from prototypes, deviations, lengths and counts: no image is kept.

    The loss of a step > 0 is the labels' mBCE averaged with that of replayed features and of old
    background (``mbce``), the distillation of features where the teacher sees an old class
    (``pkd``), and what keeps new directions from old prototypes (``contrast``). DKD's terms are
    added where they are given weights. Step 0 learns as DKD's does.
    """

    name = "star"
    summary = "replays old classes from statistics of their features; keeps no image"
    weights: ClassVar[Mapping[str, float]] = {
        **asdict(replace(_NO_TERM, mbce=1.0)),
        "pkd": 5.0,
        "contrast": 0.05,
    }
    remembers = True
    options = Options
    pos_weight = 8.0
    rates: ClassVar[Mapping[str, float]] = {**DKD.rates, "new_head": 100.0}

    @classmethod
    def key(cls, scenario: Scenario, step: int) -> dict[str, Any]:
        """Of step 0 too, which keeps statistics."""
        return {"method": cls.name, **cls.options_key(scenario, step)}

    @classmethod
    def check_teacher(
        cls, scenario: Scenario, description: Mapping[str, Any], statistics: bool
    ) -> None:
        """One without statistics will do for ``lite``; one with merged classes for neither."""
        if merged := description.get("channels"):
            raise UserError(
                f"class {min(merged)!r} is merged from several, for which STAR has no prototype; "
                "take another method, e.g. --set method=dkd"
            )
        super().check_teacher(scenario, description, statistics=True)
        if not statistics and cls.chosen(scenario).variant != "lite":
            raise UserError(
                f"was trained by {description.get('method') or 'another program'} and keeps no "
                f"statistics, which method {cls.name} needs; compute them from its images (dkd "
                "statistics), or derive them from its heads (method_options.variant=lite)"
            )

    @classmethod
    def grow(cls, teacher: SegmentationModel, new: int) -> SegmentationModel:
        """With a new head drawn by Kaiming normal, biases uniform within 1 / sqrt(C)."""
        from torch.nn import Conv2d, init

        student = super().grow(teacher, new)
        head = Conv2d(student.head(-1).in_channels, new, 1)
        init.kaiming_normal_(head.weight)
        student.head(-1).load_state_dict(head.state_dict())
        return student

    def __init__(
        self,
        student: SegmentationModel,
        teacher: SegmentationModel | None,
        given: base.Circumstances,
    ) -> None:
        super().__init__(student, teacher, given)
        self._chosen: Options = self.chosen(given.scenario)
        self._new_classes = range(1 + self._old, 1 + student.classes)
        self._replay: Replay | None = None

    @property
    def played(self) -> Sequence[SegmentationModel]:
        return [self.student, *self.frozen]

    def groups(self) -> list[dict[str, Any]]:
        """The new head learns 100 times as fast as the backbone; all weights decay."""
        decay = self.given.scenario.training.weight_decay
        return [{**each, "weight_decay": decay} for each in super().groups()]

    # ---- before the first iteration: what is replayed

    def begin(self, walk: Walk) -> None:
        """Counts what the teacher sees in the new images, and from that what to replay."""
        super().begin(walk)
        if self.teacher is None:
            return
        from dkd.data.channels import void_of
        from dkd.losses import star

        scenario, old = self.given.scenario, self._old
        lite, images = self._chosen.variant == "lite", 0

        def each() -> Iterator[tuple[Tensor, ...]]:
            nonlocal images
            for output, batch in walk(self.frozen[0]):
                images += 1
                seen, label = _at_cells(
                    output, _seen(output, batch, self.student.reading), batch["label"]
                )
                counts = seen[label == 0].long().bincount(minlength=1 + old)
                labelled = ((label > old) & (label < void_of(label))).sum()
                directions = star.moments(output.features, seen, range(1, 1 + old)).direction
                yield counts, labelled, directions[0] if lite else labelled

        counts, labelled, directions = summed(each(), self.given.gather)
        if lite:
            often = labelled / len(self._new_classes)  # as good a guess as any, if none was kept
            tables = self._derived(directions, star.guessed(counts, often))
        else:
            tables = self._tables()
        rule = self._counting()
        if rule == "journal" and "spreads" in tables:
            tables["spreads"] = tables["spreads"].mean().expand(old)
        batches = max(1, images * self.given.world_size // scenario.training.batch_size)
        numbers = tables.pop("numbers")
        how_much = star.counted(rule, numbers, counts, batches, len(self._new_classes))
        device = self.frozen[0].head(0).weight.device
        self._replay = Replay(
            {name: table.to(device).float() for name, table in tables.items()},
            star.replayed_classes(how_much.per_batch).to(device),
            how_much,
        )

    def _counting(self) -> Counting:
        if self._chosen.counting is not None:
            return self._chosen.counting
        scenario = self.given.scenario
        if scenario.protocol == "paper" and self._chosen.variant == "full":
            return "overlap" if scenario.setting == "overlap" else "disjoint"
        return "journal"

    def _tables(self) -> dict[str, Tensor]:
        """What the teacher's statistics hold of this variant.

        Raises:
            UserError: that is not all.
        """
        kept = dict(self.given.statistics)
        if self._chosen.variant == "basic" and "deviations" in kept:
            kept["spreads"] = kept["deviations"].square().sum(1).sqrt()
        names = KEPT_STATISTICS[self._chosen.variant]
        if missing := [name for name in names if name not in kept]:
            raise UserError(
                f"method_options.variant: {self._chosen.variant} needs the teacher's "
                f"{missing[0]}, which it does not keep; use its own variant, or lite"
            )
        return {name: kept[name] for name in names}

    def _derived(self, directions: Tensor, guess: Tensor) -> dict[str, Tensor]:
        """Tables of STAR-Lite, from what the teacher sees and from its heads."""
        import torch

        from dkd.losses import star

        model = self.frozen[0]
        heads = [model.head(number) for number in range(1, len(model.cls))]
        weight = torch.cat([head.weight.flatten(1) for head in heads]).cpu().double()
        bias = torch.cat([head.bias for head in heads if head.bias is not None]).cpu().double()
        derived = star.prototypes_from_heads(weight, bias, self._chosen.lite_iterations)
        seen = star.prototypes_from_predictions(directions)
        prototypes, spreads = star.lite(seen, derived)
        numbers = self.given.statistics.get("numbers", guess)
        return {"numbers": numbers, "prototypes": prototypes, "spreads": spreads}

    # ---- an iteration

    def outputs(self, model: nn.Module, images: Tensor) -> tuple[Output, Output | None]:
        """What student and teacher give, decomposed if DKD's terms have weights."""
        if self.teacher is None or self._weights.distils:
            return super().outputs(model, images)
        return self.plain_outputs(model, images)

    def loss(self, outputs: tuple[Output, Output | None], batch: Batch) -> Losses:
        """The terms of :mod:`dkd.losses.star`, and DKD's that have a weight."""
        from torch.nn import functional as F

        from dkd.losses import star
        from dkd.losses.terms import Losses

        student, teacher = outputs
        if teacher is None or self._replay is None:
            return super().loss(outputs, batch)
        average, label, head = self.given.average, batch["label"], self.student.head(-1)
        size, seen = _size(student), _seen(teacher, batch, self.student.reading)
        old, label_cells = _at_cells(teacher, seen, label)
        labelled = self._total(student, None, batch, replace(_NO_TERM, mbce=1.0)).total
        features = self._replayed(self._replay, student.features, batch["iteration"])
        terms = {
            "mbce": star.mbce(
                labelled,
                F.linear(features, head.weight.flatten(1), head.bias),
                student.logits[:, 1 + self._old :],
                star.background_cells(old, label_cells),
                self._replay.counts.background,
                average,
            ),
            "pkd": star.pkd(
                student.features,
                teacher.features,
                star.shares(((label == 0) & (seen > 0))[:, None], size)[:, 0],
                average,
            ),
            "contrast": star.contrast(
                student.features,
                star.class_shares(label, self._new_classes, size),
                self._replay.tables["prototypes"],
                average,
            ),
        }
        total = sum((self.at[name] * term for name, term in terms.items()), labelled.new_zeros(()))
        found = {name: term.detach() for name, term in terms.items() if self.at[name]}
        beside = replace(self._weights, mbce=0.0)
        if beside != _NO_TERM:
            more = self._total(student, teacher if beside.distils else None, batch, beside)
            total, found = total + more.total, {**found, **more.terms}
        return Losses(total, found)

    def _replayed(self, replay: Replay, features: Tensor, iteration: int) -> Tensor:
        """This rank's share of the features that an iteration replays, ``n x C``.

        What is drawn follows from seed, step and iteration: a resumed run draws the same, and
        the ranks together draw what a single one would.
        """
        import torch

        from dkd.losses import star

        given, rows, tables = self.given, replay.rows, replay.tables
        generator = torch.Generator(rows.device)
        seed = (given.scenario.seed * 1_000_003 + given.step) * 1_000_003 + iteration
        generator.manual_seed(seed % 2**63)
        share = slice(given.rank, None, given.world_size)
        of, shape = rows[share], (len(rows), features.shape[1])
        chance: dict[str, Any] = {"generator": generator, "device": rows.device}
        if self._chosen.variant == "full":
            first, second = torch.randn(2, *shape, **chance)[:, share]
            old = star.Statistics(tables["prototypes"], tables["deviations"], tables["norms"])
            return star.full_replay(old, of, first, second)
        chords, across = torch.randn(shape[0], **chance)[share], torch.rand(shape, **chance)[share]
        directions = star.basic_replay(tables["prototypes"], tables["spreads"], of, chords, across)
        return directions * star.mean_norm(features, given.average)

    # ---- after the last iteration: what is remembered

    def finish(self, walk: Walk) -> Mapping[str, Tensor]:
        """Tables (:data:`KEPT_STATISTICS`) of all classes, the new ones' rows behind the others."""
        import torch

        from dkd.losses import star

        def each() -> Iterator[tuple[Tensor, ...]]:
            for output, batch in walk(self.student):
                label = star.at_cells(batch["label"], _size(output))
                of_image = star.moments(output.features, label, self._new_classes)
                yield ((label == 0).sum(), *(part[0] for part in of_image))

        background, *parts = summed(each(), self.given.gather)
        sums = star.Moments(*parts)
        totals = background.double()[None] if self._replay is None else self._replay.counts.totals
        kept = {"numbers": torch.cat([totals, sums.cells])}
        if self._chosen.variant == "lite":
            return kept
        before = self._tables() if self._replay is not None else {}
        own = star.statistics(sums)
        if before and self.given.scenario.protocol == "paper":
            # The program measures new classes about the prototypes of the first step's.
            table = torch.cat([before["prototypes"].double(), own.prototypes])
            own = star.statistics(sums, about=table[: len(self._new_classes)])
        for name in KEPT_STATISTICS[self._chosen.variant][1:]:
            rows = [before[name]] if before else []
            kept[name] = torch.cat([*rows, getattr(own, name).float()])
        return kept


KEPT_STATISTICS = {
    "full": ("numbers", "prototypes", "deviations", "norms"),
    "basic": ("numbers", "prototypes", "spreads"),
    "lite": ("numbers",),
}
"""Statistics by variant. ``numbers``, 1 + K, float64: cells of background and each class;
``prototypes`` and ``deviations``, K x C; ``norms``, K x 2; ``spreads``, K; in float32.
"""


def _size(output: Output) -> tuple[int, int]:
    return output.features.shape[-2], output.features.shape[-1]


def _seen(output: Output, batch: Batch, reading: Reading) -> Tensor:
    """What a model sees, at the labels' resolution."""
    from dkd.losses import star

    label = batch["label"]
    return star.seen_classes(output.logits, (label.shape[-2], label.shape[-1]), reading)


def _at_cells(output: Output, *maps: Tensor) -> list[Tensor]:
    """Maps of numbers at the cells of the features."""
    from dkd.losses import star

    return [star.at_cells(numbers, _size(output)) for numbers in maps]
