"""What a version of a model is, and what a promotion is: documents that never change."""

import json
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from dkd.errors import UserError, require_known_format
from dkd.report.gate import GateState, state, verdict
from dkd.report.model import (
    ArtifactRef,
    DatasetRef,
    GateCheck,
    RunResult,
    Scores,
    fault,
    said_format,
)
from dkd.scenario import strict_yaml
from dkd.scenario.gate import Gate
from dkd.scenario.strict_model import parse_part
from dkd.steps.step import read_json
from dkd.storage.artifacts import Manifest

Number = Annotated[int, Field(ge=1)]


class Document(BaseModel):
    """JSON with sorted keys, equal for equal contents; unknown fields are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    newest_format: ClassVar[int] = 1

    def to_json(self) -> bytes:
        """The document's bytes."""
        text = json.dumps(self.model_dump(mode="json"), sort_keys=True, indent=1, allow_nan=False)
        return text.encode() + b"\n"

    @classmethod
    def from_json(cls, data: bytes, source: str) -> Self:
        """The document that :meth:`to_json` wrote.

        Raises:
            UserError: it is something else.
            dkd.errors.NewerFormat: a later version wrote it.
        """
        try:
            return cls.model_validate_json(data)
        except ValidationError as error:
            require_known_format(said_format(data), cls.newest_format, source)
            raise UserError(f"{source}: not a model's document: {fault(error)}") from None


class FirstClasses(Document):
    """The classes of a model's first version, in channel order: what its name stands for.

    Later versions begin with the same, so that a mask's values keep their meaning.
    """

    format: Literal[1] = 1
    classes: tuple[str, ...]


class ModelVersion(Document):
    """A version of a model.

    Attributes:
        model, version: its name and number.
        created, by: when it was added (ISO 8601, UTC) and by whom.
        run: that made it; "import" or "classes" for a checkpoint that such a command made.
        kubeflow_run: the Kubeflow Pipelines run's id; empty where there was none.
        extends: number of the version that it was made from by adding classes; None otherwise.
        task: class names by step.
        checkpoint, memory, evaluation: its artifacts.
        dataset: that its last step learned from; without a digest where that is not known.
        scenario, method, seed: of the run; of an imported checkpoint those that its next step is
            trained by, for how it was trained is not known.
        images: training images of the last step.
        scores: on the test images.
        gate: what the run's gate asked of it, and whether it was reached.
        judged_by: that gate, which judges the next version too.
        licence: that the run's scenario states.
        software: versions by package.
    """

    format: Literal[1] = 1
    model: str
    version: Number
    created: str
    by: str
    run: str
    kubeflow_run: str = ""
    extends: Number | None = None
    task: tuple[tuple[str, ...], ...]
    checkpoint: ArtifactRef
    memory: ArtifactRef | None = None
    evaluation: ArtifactRef | None = None
    dataset: DatasetRef
    scenario: str
    method: str
    seed: int
    images: int = 0
    scores: Scores
    gate: tuple[GateCheck, ...] = ()
    judged_by: Gate = Gate()
    licence: str = ""
    software: Mapping[str, str] = Field(default_factory=dict)

    @property
    def classes(self) -> tuple[str, ...]:
        """In channel order, without background."""
        return tuple(name for names in self.task for name in names)

    @property
    def state(self) -> GateState:
        """What its gate came to."""
        return state(self.gate)

    @property
    def verdict(self) -> str:
        """Likewise, in words."""
        return verdict(self.gate) or "Gate: nothing asked"

    @property
    def passed_on(self) -> dict[str, Any]:
        """Values by dotted field of the scenario that the next version takes over from this one's
        run. Its checkpoint cannot say: it may have been found, made by a run with another gate.
        """
        gate = self.judged_by.model_dump(mode="json") if self.judged_by.asks else {}
        licence = {"licence": self.licence} if self.licence else {}
        return {f"gate.{name}": value for name, value in gate.items()} | licence

    def is_same(self, other: "ModelVersion") -> bool:
        """Whether it is the same result of the same run, and not a new version."""
        left_out = {"version", "created", "by", "kubeflow_run", "extends", "judged_by", "licence"}
        return self.model_dump(exclude=left_out) == other.model_dump(exclude=left_out)


class Promotion(Document):
    """A version went into production.

    Attributes:
        number: of this entry; the highest one says what is in production.
        version: that is in production now.
        was: that was before; None at first.
        created, by: when (ISO 8601, UTC) and by whom.
        back: it is a step back to an earlier state.
        gate: what the version's gate came to.
        despite_gate: why it went into production though its gate was not passed.
    """

    format: Literal[1] = 1
    number: Number
    version: Number
    was: Number | None = None
    created: str
    by: str
    back: bool = False
    gate: GateState
    despite_gate: str = ""


class RemovedVersion(Document):
    """A version was removed, and its number is not used again.

    Attributes:
        number: of this entry.
        removed: the version's number.
        created, by: when (ISO 8601, UTC) and by whom.
    """

    newest_format: ClassVar[int] = 2
    format: Literal[2] = 2  # so that a program that knows promotions alone refuses it
    number: Number
    removed: Number
    created: str
    by: str


def entry(data: bytes, source: str) -> Promotion | RemovedVersion:
    """An entry of what happened to a model's versions.

    Raises:
        UserError: it is something else.
        dkd.errors.NewerFormat: a later version wrote it.
    """
    kind = Promotion if said_format(data) in (None, 1) else RemovedVersion
    return kind.from_json(data, source)


def of_run(
    result: RunResult, *, model: str, run: str, by: str, created: str, kubeflow_run: str = ""
) -> ModelVersion:
    """The version that a finished run made: its last step's model. Its number is not settled yet.

    Raises:
        UserError: the run's result does not name its model, as those of older programs.
    """
    last = result.steps[-1]
    if last.checkpoint is None:
        raise UserError(
            f"run {run!r}: its result names no checkpoint; run it again; nothing is trained"
        )
    said = strict_yaml.load(result.configuration, f"run {run!r}: configuration") or {}
    task = (result.classes,) if result.is_joint else result.task[: last.step + 1]
    return ModelVersion(
        model=model,
        version=1,
        created=created,
        by=by,
        run=run,
        kubeflow_run=kubeflow_run,
        task=task,
        checkpoint=last.checkpoint,
        memory=last.chosen,
        evaluation=last.evaluation,
        dataset=result.dataset,
        scenario=result.scenario,
        method=result.method,
        seed=result.seed,
        images=last.images,
        scores=last.scores,
        gate=last.gate,
        judged_by=parse_part(Gate, said.get("gate", {}), source=f"run {run!r}: configuration"),
        licence=result.licence,
        software=result.provenance.versions,
    )


def of_checkpoint(
    found: Manifest,
    *,
    model: str,
    checkpoint: ArtifactRef,
    memory: ArtifactRef | None,
    by: str,
    created: str,
) -> ModelVersion:
    """The version that a checkpoint alone makes: not scored, and nothing asked of it.

    Args:
        found: the checkpoint.
        model: the model's name.
        checkpoint: where it is kept.
        memory: that goes with it.
        by: who adds it.
        created: when.

    Raises:
        UserError: it does not say how a further step is to be trained.
    """
    said, scenario = read_json(found, "checkpoint.json"), found.metadata.get("scenario")
    if scenario is None:
        raise UserError(f"{found.uri}: {found.kind} without a scenario; name a checkpoint")
    task = tuple(tuple(names) for names in said["classes"])
    origin = found.metadata.get("dataset") or {}
    learned = said.get("dataset") or {}
    return ModelVersion(
        model=model,
        version=1,
        created=created,
        by=by,
        run=found.metadata["run"],
        task=task,
        checkpoint=checkpoint,
        memory=memory,
        dataset=DatasetRef(
            name=learned.get("name", ""),
            digest=learned.get("digest", ""),
            uri=origin.get("uri", ""),
        ),
        scenario=scenario["name"],
        method=scenario["method"],
        seed=scenario["seed"],
        images=found.metadata.get("images", 0),
        scores=Scores(iou=(None,) * (1 + sum(map(len, task)))),
        judged_by=parse_part(Gate, scenario.get("gate", {}), source=found.uri),
        licence=scenario.get("licence", ""),
        software=found.metadata.get("versions", {}),
    )
