"""A step: what it takes in, what it gives out, and the key under which its result is kept.

Every result is *content-addressed*: its place under the artifact root is a digest of all that
changes it. So a step that was trained once is found by every task, method and memory size that
shares it, and never trained twice. The name of a run, the number of machines and the interval of
saving are not part of a key, and neither is the image that a cluster's jobs run, which may be
rebuilt for a security fix alone: what the program computes is known by its number, :data:`PROGRAM`.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

from pydantic import Field

from dkd import methods, storage
from dkd.data import labels, splits
from dkd.data.index import Dataset
from dkd.data.packed import open_dataset
from dkd.data.records import Record, Records
from dkd.errors import UserError
from dkd.methods import Method
from dkd.scenario.network import Network
from dkd.scenario.protocols import PROTOCOLS, Protocol
from dkd.scenario.schema import Scenario
from dkd.scenario.strict_model import StrictModel
from dkd.scenario.tasks import Task
from dkd.steps import initial_weights
from dkd.storage import artifacts
from dkd.storage.artifacts import Manifest

Stage = Literal["train", "evaluate", "memory"]
STAGES: tuple[Stage, ...] = ("train", "evaluate", "memory")

EVALUATION, MEMORY = "evaluation.json", "memory.json"
"""The parts of an evaluation and of a memory that list what it holds."""
BY_IMAGE = "by-image.npy"
"""Part of an evaluation: int32 ``images x 3 x (1 + K)``, each test image's pixels of a channel that
are right, true, predicted, in the order of the step's test images. No image is named there.
"""

PROGRAM = 2
"""Which program computes, part of every key (``format``). A change of the code that changes results
raises it, so that nothing older is taken for the same; ``tests/steps/test_step_program.py`` tells.
"""


class StepSpec(StrictModel):
    """All that a step's job is told; it travels as JSON and holds no secret.

    Attributes:
        scenario: the scenario, overrides applied.
        task: class names by step, the whole task's.
        step: which one.
        dataset: URI of the data set artifact.
        root: artifact root.
        teacher: URI of the previous step's checkpoint; empty at step 0.
        memory: URI of the exemplar memory that the step trains with; empty without.
        checkpoint: URI of the step's own checkpoint where it is known: any model can be
            evaluated, or have exemplars chosen for it, wherever it came from.
    """

    scenario: Scenario
    task: tuple[tuple[str, ...], ...]
    step: int = Field(ge=0)
    dataset: str
    root: str
    teacher: str = ""
    memory: str = ""
    checkpoint: str = ""


@dataclass(frozen=True)
class Step:
    """A step with its inputs opened: the data set's index and the manifests of what it uses.

    ``start`` are the initial weights of the backbone, at step 0 alone; None for random ones.

    The keys below are pure functions of these.
    """

    spec: StepSpec
    dataset: Dataset
    teacher: Manifest | None
    memory: Manifest | None
    start: Manifest | None = None

    @classmethod
    def open(cls, spec: StepSpec) -> "Step":
        """Reads the inputs' manifests.

        Raises:
            UserError: an input is missing or does not fit: a teacher that knows other classes
                than the task says, no teacher at a later step, a memory of other classes than
                the teacher's, no initial weights at step 0, an unknown method.
        """
        methods.check(spec.scenario)
        dataset, _ = open_dataset(spec.dataset)
        teacher = artifacts.load(spec.teacher) if spec.teacher else None
        memory = artifacts.load(spec.memory) if spec.memory else None
        trained = spec.step > 0 or spec.checkpoint
        start = None if trained else initial_weights.find(spec.scenario.network, spec.root)
        step = cls(spec, dataset, teacher, memory, start)
        if spec.checkpoint:
            step._require_classes(artifacts.load(spec.checkpoint), spec.step)
        elif spec.step and teacher is None:
            raise UserError(f"step {spec.step}: needs the checkpoint of step {spec.step - 1}")
        if teacher is not None:
            step._require_classes(teacher, spec.step - 1)
            step._require_fit(teacher)
        if memory is not None:
            require_memory(memory, step.task.upto(spec.step - 1).steps)
        return step

    def _require_fit(self, teacher: Manifest) -> None:
        """That the step's method can go on from its teacher, which the job alone would find, and
        that its network is the scenario's: the teacher's it is that goes on learning.
        """
        described = read_json(teacher, "checkpoint.json")
        theirs = Network.of_structure(described["network"]).structure()
        ours = self.scenario.network.structure()
        if changed := differences({"network": theirs}, {"network": ours}, ("teacher", "scenario")):
            raise UserError(
                f"{teacher.uri}: its network is not the scenario's ({'; '.join(changed[:3])}); "
                "give the scenario the teacher's (--set network.FIELD=VALUE), or take dkd extend"
            )
        try:
            self.method.check_teacher(
                self.scenario,
                described,
                statistics=keeps_statistics(teacher),
            )
        except UserError as error:
            raise UserError(f"{teacher.uri}: {error}") from None

    def _require_classes(self, checkpoint: Manifest, step: int) -> None:
        known = known_classes(checkpoint, "checkpoint")
        expected = [list(names) for names in self.task.upto(step).steps]
        if known != expected:
            raise UserError(
                f"{checkpoint.uri}: this model knows {_brief(known)}, but the task says "
                f"{_brief(expected)} up to step {step}; name the checkpoint of the same task's "
                f"step {step}"
            )

    @cached_property
    def task(self) -> Task:
        """The task as it is trained: all in one step for a joint method."""
        task = Task(self.spec.task)
        return task.joint() if self.method.joint else task

    @property
    def number(self) -> int:
        return self.spec.step

    @property
    def scenario(self) -> Scenario:
        return self.spec.scenario

    @property
    def protocol(self) -> Protocol:
        return PROTOCOLS[self.scenario.protocol]

    @cached_property
    def method(self) -> type[Method]:
        return methods.get(self.scenario.method)

    @property
    def covers_seen_classes(self) -> bool:
        """Whether labels speak for every seen class (else for the step's new ones only)."""
        return self.number == 0 or self.method.covers_seen_classes

    @cached_property
    def training_records(self) -> Records:
        """The step's own images."""
        return splits.training(self.dataset, self.task, self.scenario.setting, self.number)

    @cached_property
    def test_records(self) -> Records:
        """Images that the model of this step is scored on."""
        return splits.test(self.dataset, self.task, self.number)

    @property
    def stages(self) -> tuple[Stage, ...]:
        """What the step consists of. Exemplars are chosen after the last step too: the next
        classes may come one day (``dkd extend``). Without a test image of any class that the
        model knows there is nothing to score it on.
        """
        lacking: set[Stage] = set()
        if not self.test_records:
            lacking.add("evaluate")
        if not self.scenario.memory_size:
            lacking.add("memory")
        return tuple(stage for stage in STAGES if stage not in lacking)

    # ---- identities: everything that changes a result, and nothing else

    @cached_property
    def checkpoint_identity(self) -> dict[str, Any]:
        """What the trained model depends on; independent of the task's later steps."""
        training, number = self.scenario.training, self.number
        network = self.scenario.network
        return {
            "format": PROGRAM,
            "kind": "checkpoint",
            "classes": [list(names) for names in self.task.steps[: number + 1]],
            "images": records_digest(self.training_records),
            "labels": labels.identity(labels.training_table(self.dataset, self.task, number)),
            "teacher": self.teacher.digest if self.teacher else None,
            "memory": self.memory.digest if self.memory else None,
            "losses": self.method.weights_at(number, self.scenario.losses),
            **self.method.key(self.scenario, number),
            "covers_seen_classes": self.covers_seen_classes,
            "void_is_negative": self.protocol.void_is_negative,
            "memory_keeps_labels": self.protocol.memory_keeps_labels if self.memory else None,
            "seed": self.scenario.seed,
            "network": {
                **network.structure(),
                "weights": self.start.digest if self.start else None,
            },
            "training": {
                **training.at(
                    number, memory=self.memory is not None, pos_weight=self.method.pos_weight
                ),
                "precision": training.precision,
            },
        }

    @cached_property
    def checkpoint_uri(self) -> str:
        given = self.spec.checkpoint
        return given or place(self.spec.root, "checkpoints", self.checkpoint_identity)

    @property
    def saves_uri(self) -> str:
        """Where the training state is saved for resuming."""
        return place(self.spec.root, "saves", self.checkpoint_identity)

    def evaluation_uri(self, checkpoint: Manifest) -> str:
        return place(self.spec.root, "evaluations", self.evaluation_identity(checkpoint))

    def evaluation_identity(self, checkpoint: Manifest) -> dict[str, Any]:
        return {
            "format": PROGRAM,
            "kind": "evaluation",
            "checkpoint": checkpoint.digest,
            "images": records_digest(self.test_records),
            "labels": labels.identity(labels.test_table(self.dataset, self.task, self.number)),
            "whole_image": self.protocol.whole_image_evaluation,
            "crop": self.scenario.training.crop,
            "pictures": [record.id for record in self.picture_records],
        }

    def memory_uri(self, checkpoint: Manifest) -> str:
        return place(self.spec.root, "memories", self.memory_identity(checkpoint))

    def memory_identity(self, checkpoint: Manifest) -> dict[str, Any]:
        return {
            "format": PROGRAM,
            "kind": "memory",
            "checkpoint": checkpoint.digest,
            "images": records_digest(self.training_records),
            "previous": self.memory.digest if self.memory else None,
            "seen_again": self.protocol.exemplars_seen_again if self.memory else None,
            "size": self.scenario.memory_size,
            "seed": self.scenario.seed,
            "crop": self.scenario.training.crop,
        }

    def uri(self, stage: Stage, checkpoint: Manifest | None = None) -> str:
        """Where a stage's result lies, there or not.

        Args:
            stage: which one.
            checkpoint: the trained model's manifest; not needed for ``train``.
        """
        if stage == "train":
            return self.checkpoint_uri
        assert checkpoint is not None, "evaluation and memory belong to a checkpoint"
        return (self.evaluation_uri if stage == "evaluate" else self.memory_uri)(checkpoint)

    @cached_property
    def picture_records(self) -> tuple[Record, ...]:
        """The same few images after every step: together they show as many classes as possible."""
        value_of = {name: value for value, name in self.dataset.classes.items()}
        wanted = {value_of[name] for name in self.task.classes if name in value_of}
        left, chosen = set(wanted), list[Record]()
        candidates = [r for r in self.dataset.splits["validation"] if wanted & set(r.classes)]
        while candidates and len(chosen) < PICTURES:
            best = max(candidates, key=lambda r: (len(left & set(r.classes)), r.digest))
            chosen.append(best)
            candidates.remove(best)
            left = left - set(best.classes) or set(wanted)
        return tuple(chosen)


PICTURES = 6


def records_digest(records: Iterable[Record]) -> str:
    """Digest of a list of images with their masks, names and order included."""
    return digest([[record.id, record.digest] for record in records])


def digest(document: object) -> str:
    """sha256 of a document's canonical JSON."""
    text = json.dumps(document, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def place(root: str, folder: str, identity: Mapping[str, Any]) -> str:
    """URI of the result with this identity."""
    return storage.join(root, folder, digest(identity)[:32])


def read_json(manifest: Manifest, name: str) -> Any:
    """A JSON part of an artifact, verified."""
    return json.loads(artifacts.read_part(manifest, name))


def keeps_statistics(checkpoint: Manifest) -> bool:
    """Whether a checkpoint holds what its method keeps for the next step."""
    return "statistics.safetensors" in checkpoint.parts


def known_classes(manifest: Manifest, kind: str) -> list[list[str]]:
    """The classes by step that a checkpoint or memory knows.

    Args:
        manifest: the artifact.
        kind: ``checkpoint`` or ``memory``, as which it was named.

    Raises:
        UserError: it is another kind of artifact.
    """
    if manifest.kind != kind:
        raise UserError(f"{manifest.uri}: {manifest.kind}; name a {kind}")
    known: list[list[str]] = read_json(manifest, f"{kind}.json")["classes"]
    return known


def require_memory(memory: Manifest, classes: Sequence[Sequence[str]]) -> None:
    """Checks that an exemplar memory goes with a model.

    Args:
        memory: the memory.
        classes: that the model knows, by step.

    Raises:
        UserError: it does not.
    """
    known, expected = known_classes(memory, "memory"), [list(names) for names in classes]
    if known != expected:
        raise UserError(
            f"{memory.uri}: this memory was chosen for a model that knows {_brief(known)}, but the "
            f"teacher knows {_brief(expected)}; name the memory of the teacher's own step"
        )


def differences(
    one: Mapping[str, Any],
    other: Mapping[str, Any],
    called: tuple[str, str] = ("before", "now"),
    prefix: str = "",
) -> list[str]:
    """Dotted names of the fields in which two identities differ, with both values.

    Args:
        one: the first.
        other: the second.
        called: what each is called behind its value.
        prefix: of the names.
    """
    found: list[str] = []
    for key in sorted({*one, *other}):
        a, b = one.get(key), other.get(key)
        if isinstance(a, Mapping) and isinstance(b, Mapping):
            found += differences(a, b, called, f"{prefix}{key}.")
        elif a != b:
            found.append(f"{prefix}{key}: {_brief(a)} {called[0]}, {_brief(b)} {called[1]}")
    return found


def _brief(value: object, most: int = 120) -> str:
    text = json.dumps(value)
    return text if len(text) <= most else text[: most - 1] + "…"
