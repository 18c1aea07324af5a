"""What a run found out: everything that tables and the report show, as one JSON document.

A :class:`RunResult` stands alone: pictures are inside (as base64), artifacts are named by URI
and digest. Two equal results give the same bytes of JSON. Scores are percent, labels and
matrices are in channel numbers (0 background, 1..K the task's classes in order; void is 255,
in pictures of 16 bits 65,535).
"""

import itertools
import json
import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from dkd.errors import UserError, require_known_format
from dkd.scenario.gate import Percent
from dkd.scenario.names import BACKGROUND_NAME

Level = Annotated[int, Field(ge=0, le=255)]
Colour = tuple[Level, Level, Level]
Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class _Part(BaseModel):
    """Base of every part: unknown fields are errors, values do not change, bytes are base64."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, ser_json_bytes="base64", val_json_bytes="base64"
    )


class ArtifactRef(_Part):
    """An artifact, by where it lies and what is in it (sha256, hexadecimal)."""

    uri: str
    digest: str


class DatasetRef(_Part):
    """The data set: its name, the digest of its index, and where it lies if it is an artifact."""

    name: str
    digest: str
    uri: str = ""


Interval = tuple[float, float]
"""Lower and upper end."""


class Intervals(_Part):
    """95 % confidence intervals over the test images (:mod:`dkd.evaluation.intervals`); None where
    the figure is.

    Attributes:
        iou: by channel.
        miou_all, miou_old, miou_new, hiou, pixel_accuracy: of these figures.
        images: by channel, number of test images that truly hold it.
    """

    iou: tuple[Interval | None, ...]
    miou_all: Interval | None = None
    miou_old: Interval | None = None
    miou_new: Interval | None = None
    hiou: Interval | None = None
    pixel_accuracy: Interval | None = None
    images: tuple[int, ...]


class Scores(_Part):
    """Scores of one model over the test images, in percent; None where there is nothing to score.

    Attributes:
        iou: by channel, background first; as long as the model has seen classes, plus one.
        miou_all: over seen classes and background.
        miou_old: over the classes of step 0 and background.
        miou_new: over the classes of the later steps. (The joint model's old and new classes are
            those of the task it is the upper bound of, so that methods compare.)
        hiou: harmonic mean of old and new.
        pixel_accuracy: share of valid pixels that are right.
        intervals: theirs; None where the evaluation kept no counts by image, as older ones.
    """

    iou: Annotated[tuple[Percent | None, ...], Field(min_length=2)]
    miou_all: Percent | None = None
    miou_old: Percent | None = None
    miou_new: Percent | None = None
    hiou: Percent | None = None
    pixel_accuracy: Percent | None = None
    intervals: Intervals | None = None


class Curve(_Part):
    """Loss terms over the iterations of a step; None where a value was not finite.

    Attributes:
        iterations: increasing, counted from 1.
        terms: by name (``total`` and those of the method), each as long as
            ``iterations``.
    """

    iterations: tuple[int, ...] = ()
    terms: dict[str, tuple[float | None, ...]] = {}

    @model_validator(mode="after")
    def _same_length(self) -> Self:
        for name, values in self.terms.items():
            if len(values) != len(self.iterations):
                raise ValueError(
                    f"terms.{name}: {len(values)} values for {len(self.iterations)} iterations"
                )
        return self

    @classmethod
    def of(
        cls,
        iterations: Sequence[int],
        terms: Mapping[str, Sequence[float]],
        most: int = 120,
    ) -> Self:
        """A curve of at most ``most`` points: the means of equal runs of iterations.

        Args:
            iterations: iteration of every value, increasing.
            terms: values by term, each as long as ``iterations``. A value that is not finite
                makes its point None.
            most: number of points that are kept.
        """
        count = len(iterations)
        points = min(most, count)
        bounds = [count * i // points for i in range(points + 1)] if points else [0]
        runs = list(itertools.pairwise(bounds))

        def mean(values: Sequence[float]) -> float | None:
            value = math.fsum(values) / len(values) if all(map(math.isfinite, values)) else None
            return value if value is None or math.isfinite(value) else None

        return cls(
            iterations=tuple(iterations[stop - 1] for _, stop in runs),
            terms={
                name: tuple(mean(values[start:stop]) for start, stop in runs)
                for name, values in terms.items()
            },
        )


class ShownExemplar(_Part):
    """An image of the exemplar memory: ``thumbnail`` is PNG or JPEG, ``classes`` are names."""

    id: str
    thumbnail: bytes
    classes: tuple[str, ...] = ()


class Prediction(_Part):
    """What a model made of a reference image: a grey or palette PNG of channel numbers."""

    id: str
    labels: bytes


class Reference(_Part):
    """An image that every step's model segments.

    Attributes:
        id: of the image in the data set.
        image: PNG or JPEG.
        truth: grey or palette PNG of channel numbers of the whole task, with void.
    """

    id: str
    image: bytes
    truth: bytes


class GateCheck(_Part):
    """One thing that a step's gate asked.

    Attributes:
        what: it is about: a score or a class.
        figure: what was reached: an IoU in percent, or a loss in points; None where it could not
            be measured.
        limit: at least this much, or of a loss at most.
        at_least: which of the two.
        passed: whether it was reached; None where that cannot be told: nothing was measured, or
            the limit lies within the interval.
        interval: of the figure; None where it is not known.
    """

    what: str
    figure: float | None
    limit: float
    at_least: bool
    passed: bool | None
    interval: Interval | None = None

    @property
    def open(self) -> bool:
        """Whether it was measured, but on too few test images to be sure."""
        return self.passed is None and self.figure is not None

    def __str__(self) -> str:
        if self.figure is None:
            return f"{self.what} not measured"
        failed, reached = ("<", ">=") if self.at_least else (">", "<=")
        sign = {True: reached, False: failed, None: "around"}[self.passed]
        within = "" if self.interval is None else " ({:.1f} to {:.1f})".format(*self.interval)
        return f"{self.what} {self.figure:.1f}{within} {sign} {self.limit:g}"


class StepResult(_Part):
    """One step: what was trained or found, and how good it is.

    Attributes:
        step: counted from 0.
        new_classes: names that the step added; every class for the joint model.
        images: number of images of the step's training set, exemplars included.
        checkpoint: the model that the step made.
        teacher: the model it started from; None at step 0.
        start: what step 0 started from, in words; empty where a teacher was, or is not known.
        memory: the exemplar memory it trained with; None if there was none.
        elsewhere: it learned from another data set: the teacher of an extension.
        origin: whether the step was trained in this run or its checkpoint was found.
        made_by: where a found checkpoint was first made, e.g. a scenario, variant and date.
        seconds: duration by stage, e.g. ``{"train": 81.0, "evaluate": 4.2}``.
        curve: training losses.
        confusion: pixel counts, rows truth and columns prediction, both by channel; empty if
            not kept.
        scores: on the test images of all classes seen so far.
        gate: what the scenario's gate asked of this step; empty where that is nothing.
        evaluation: where the scores are from; None where there was nothing to score it on, or
            a result does not say.
        chosen: the memory of exemplars chosen after this step; likewise.
        exemplars: the memory chosen after this step, for the next one.
        predictions: of the run's reference images.
    """

    step: Annotated[int, Field(ge=0)]
    new_classes: tuple[str, ...]
    images: Annotated[int, Field(ge=0)] = 0
    checkpoint: ArtifactRef | None = None
    teacher: ArtifactRef | None = None
    start: str = ""
    memory: ArtifactRef | None = None
    elsewhere: bool = False
    origin: Literal["trained", "found"] = "trained"
    made_by: str = ""
    seconds: dict[str, Seconds] = {}
    curve: Curve = Curve()
    confusion: tuple[tuple[Annotated[int, Field(ge=0)], ...], ...] = ()
    scores: Scores
    gate: tuple[GateCheck, ...] = ()
    evaluation: ArtifactRef | None = None
    chosen: ArtifactRef | None = None
    exemplars: tuple[ShownExemplar, ...] = ()
    predictions: tuple[Prediction, ...] = ()

    @model_validator(mode="after")
    def _square(self) -> Self:
        channels = len(self.scores.iou)
        if self.confusion and [len(row) for row in self.confusion] != [channels] * channels:
            raise ValueError(f"confusion: not {channels} x {channels} as scores.iou has channels")
        return self


class Provenance(_Part):
    """What the run ran on.

    Attributes:
        versions: by package or program, e.g. dkd, torch, python.
        device: in words, e.g. ``2 x NVIDIA H200`` or ``CPU, 2 processes``.
        started, finished: ISO 8601 times.
        seconds: duration by stage of what is not part of a step, e.g. ``{"data": 12.0}``.
    """

    versions: dict[str, str] = {}
    device: str = ""
    started: str = ""
    finished: str = ""
    seconds: dict[str, Seconds] = {}


def fault(error: ValidationError) -> str:
    """The first thing that is wrong with a document: the field, if it is one's, and what."""
    first = error.errors(include_url=False, include_context=False)[0]
    where = ".".join(map(str, first["loc"]))
    return ": ".join(filter(None, [where, first["msg"].removeprefix("Value error, ")]))


def said_format(data: bytes) -> object:
    """The format that a JSON document says it has; None where it says nothing, or is none."""
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        return None
    return document.get("format") if isinstance(document, dict) else None


class RunResult(_Part):
    """One variant of a scenario, run once.

    Attributes:
        format: version of this document.
        scenario: name of the scenario.
        variant: label under which it is compared; runs that differ in the seed alone share it.
        method, setting, protocol, memory_size, seed: as in the scenario.
        task: class names by step; for the joint model too, those of the task it bounds.
        colours: of background and of every class, by channel.
        dataset: what it learned from.
        licence: of the models, as the scenario states it.
        configuration: the scenario as YAML.
        steps: increasing, from any step on; the joint model has one.
        references: images that every step segmented.
    """

    format: Literal[1] = 1
    scenario: str
    variant: str
    method: str
    setting: str = ""
    protocol: str = ""
    memory_size: Annotated[int, Field(ge=0)] = 0
    seed: int
    task: Annotated[tuple[tuple[str, ...], ...], Field(min_length=1)]
    colours: tuple[Colour, ...]
    dataset: DatasetRef
    licence: str = ""
    configuration: str = ""
    provenance: Provenance = Provenance()
    steps: Annotated[tuple[StepResult, ...], Field(min_length=1)]
    references: tuple[Reference, ...] = ()

    @model_validator(mode="after")
    def _fits_the_task(self) -> Self:
        classes = len(self.classes)
        if len(self.colours) != 1 + classes:
            raise ValueError(f"colours: {len(self.colours)} for background and {classes} classes")
        numbers = [step.step for step in self.steps]
        if numbers != sorted(set(numbers)):
            raise ValueError(f"steps: numbered {numbers}; every step once, in order")
        for step in self.steps:
            if len(step.scores.iou) > 1 + classes:
                raise ValueError(
                    f"steps: step {step.step} scores {len(step.scores.iou) - 1} classes, "
                    f"the task has {classes}"
                )
        return self

    @property
    def classes(self) -> tuple[str, ...]:
        """Every class of the task in channel order, without background."""
        return tuple(name for names in self.task for name in names)

    @property
    def channels(self) -> tuple[str, ...]:
        """Background and every class, by channel."""
        return (BACKGROUND_NAME, *self.classes)

    @property
    def is_joint(self) -> bool:
        """Whether it learned every class at once although the task has several steps.

        Its only step says so, whatever the name of its method.
        """
        return len(self.task) > 1 and set(self.classes) == set(self.steps[0].new_classes)

    def to_json(self) -> bytes:
        """The document; equal results give equal bytes."""
        document = self.model_dump(mode="json")
        text = json.dumps(
            document, sort_keys=True, ensure_ascii=False, allow_nan=False, separators=(",", ":")
        )
        return text.encode() + b"\n"

    @classmethod
    def from_json(cls, data: bytes, source: str = "result") -> Self:
        """The result that :meth:`to_json` wrote.

        Args:
            data: the document.
            source: where it is from, for messages.

        Raises:
            UserError: it is no JSON, or a field is missing, unknown or out of range.
            dkd.errors.NewerFormat: a later version wrote it.
        """
        try:
            return cls.model_validate_json(data)
        except ValidationError as error:
            require_known_format(said_format(data), 1, source)
            raise UserError(f"{source}: not a run's result: {fault(error)}") from None
