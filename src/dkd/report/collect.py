"""From artifacts to a run's result: what the report and the tables show."""

import io
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np

from dkd import storage
from dkd.data import splits
from dkd.data.index import Dataset
from dkd.data.packed import open_dataset
from dkd.data.palettes import distinct_colours
from dkd.evaluation import scores as scoring
from dkd.evaluation.intervals import LossIntervals, intervals, losses
from dkd.report import model
from dkd.report.gate import judge
from dkd.scenario.parsing import dump
from dkd.scenario.protocols import PROTOCOLS
from dkd.scenario.schema import Scenario
from dkd.scenario.tasks import BACKGROUND, Task
from dkd.steps.initial_weights import in_words
from dkd.steps.stages import RESULT
from dkd.steps.step import BY_IMAGE, EVALUATION, MEMORY, Step, StepSpec, read_json
from dkd.storage import artifacts
from dkd.storage.artifacts import Manifest

PAGE = "report.html"

# More classes than this make KFP's drawing of a confusion matrix unreadable.
READABLE_CHANNELS = 31


def gather(
    scenario: Scenario,
    task: Task,
    dataset_uri: str,
    run: str,
    checkpoints: Sequence[str],
    evaluations: Sequence[str],
    memories: Sequence[str],
) -> model.RunResult:
    """A run's result, from its models and what was made of them.

    Args:
        scenario: the resolved scenario.
        task: class names by step.
        dataset_uri: the data set artifact.
        run: name of the run.
        checkpoints: URI of every step's model, in order.
        evaluations: URI of its evaluation, empty where the data set shows none of its classes.
        memories: URI of its memory, empty where there is none.
    """
    dataset, _ = open_dataset(dataset_uri)
    models = [artifacts.load(uri) for uri in checkpoints]
    scored = [artifacts.load(uri) if uri else None for uri in evaluations]
    steps = list[model.StepResult]()
    before: _Before | None = None
    for checkpoint, evaluation, memory in zip(models, scored, memories, strict=True):
        table = by_image(evaluation)
        step = _step(scenario, task, run, checkpoint, evaluation, table, memory)
        if _learned_from(checkpoint, dataset):
            checks = _judged(step, table, before, scenario, task, dataset)
            step = step.model_copy(update={"gate": checks})
        else:
            step = step.model_copy(update={"elsewhere": True})
        steps.append(step)
        before = _Before(step, table)
    last = next((evaluation for evaluation in reversed(scored) if evaluation), None)
    made = models[-1].metadata
    return model.RunResult(
        scenario=scenario.name,
        variant=scenario.label or scenario.method,
        method=scenario.method,
        setting=scenario.setting,
        protocol=scenario.protocol,
        memory_size=scenario.memory_size,
        seed=scenario.seed,
        task=task.steps,
        colours=colours(dataset, task),
        dataset=model.DatasetRef(name=dataset.name, digest=dataset.digest, uri=dataset_uri),
        licence=scenario.licence,
        configuration=dump(scenario),
        provenance=model.Provenance(
            versions=made["versions"],
            device=f"{made['device']}, {made['ranks']} rank{'s' * (made['ranks'] != 1)}",
            started=models[0].created,
            finished=(last or models[-1]).created,
        ),
        steps=tuple(steps),
        references=_references(last) if last else (),
    )


@dataclass(frozen=True)
class Shown:
    """What KFP shows of an evaluation.

    Attributes:
        metrics: percent by name; the same names at every step, 0 where there is no new class.
        channels: background and class names.
        confusion: pixel counts, rows truth.
    """

    metrics: dict[str, float]
    channels: tuple[str, ...]
    confusion: list[list[int]]


def shown(evaluation: Manifest, spec: StepSpec) -> Shown:
    """What KFP's metrics and confusion matrix show of an evaluation."""
    document = read_json(evaluation, EVALUATION)
    found = scores(document["confusion"], spec.scenario, Task(spec.task))
    names = ("miou_all", "miou_old", "miou_new", "hiou", "pixel_accuracy")
    return Shown(
        metrics={name: round(getattr(found, name) or 0.0, 3) for name in names},
        channels=("background", *(name for step in document["classes"] for name in step)),
        confusion=document["confusion"],
    )


def so_far(spec: StepSpec, evaluation: Manifest, run: str) -> model.RunResult:
    """The result of a step and, as far as they were evaluated too, the steps before it.

    Args:
        spec: the step.
        evaluation: of its model.
        run: name of the run.
    """
    checkpoint = artifacts.load(evaluation.metadata["checkpoint"]["uri"])
    checkpoints, evaluations, memories = [checkpoint.uri], [evaluation.uri], [""]
    for number in reversed(range(spec.step)):
        trained_with = checkpoint.metadata.get("memory")
        teacher = checkpoint.metadata.get("teacher")
        if not teacher:  # an imported model
            break
        checkpoint = artifacts.load(teacher["uri"])
        earlier = spec.model_copy(
            update={"step": number, "checkpoint": checkpoint.uri, "teacher": "", "memory": ""}
        )
        found = artifacts.find(Step.open(earlier).evaluation_uri(checkpoint))
        checkpoints.insert(0, checkpoint.uri)
        evaluations.insert(0, found.uri if found else "")
        memories.insert(0, trained_with["uri"] if trained_with else "")
    task = Task(spec.task)
    return gather(spec.scenario, task, spec.dataset, run, checkpoints, evaluations, memories)


def _step(
    scenario: Scenario,
    task: Task,
    run: str,
    checkpoint: Manifest,
    evaluation: Manifest | None,
    table: np.ndarray | None,
    memory_uri: str,
) -> model.StepResult:
    classes = read_json(checkpoint, "checkpoint.json")["classes"]
    found = checkpoint.metadata["run"] != run
    seconds = {"train": checkpoint.metadata.get("seconds", 0)}
    confusion: Sequence[Sequence[int]] = ()
    measured = model.Scores(iou=(None,) * (1 + sum(map(len, classes))))
    predictions: tuple[model.Prediction, ...] = ()
    if evaluation is not None:
        document = read_json(evaluation, EVALUATION)
        seconds["evaluate"] = evaluation.metadata["seconds"]
        confusion = document["confusion"]
        measured = scores(confusion, scenario, task, table)
        predictions = tuple(
            model.Prediction(
                id=name, labels=artifacts.read_part(evaluation, f"pictures/{i}.prediction.png")
            )
            for i, name in enumerate(document["pictures"])
        )
    exemplars: tuple[model.ShownExemplar, ...] = ()
    chosen: model.ArtifactRef | None = None
    if memory_uri:
        memory = artifacts.load(memory_uri)
        seconds["memory"] = memory.metadata["seconds"]
        exemplars, chosen = _exemplars(memory), _reference(memory)
    return model.StepResult(
        step=len(classes) - 1,
        new_classes=classes[-1],
        images=checkpoint.metadata.get("images", 0),
        checkpoint=_reference(checkpoint),
        teacher=checkpoint.metadata.get("teacher"),
        start=_start(checkpoint),
        memory=checkpoint.metadata.get("memory"),
        origin="found" if found else "trained",
        made_by=f"run {checkpoint.metadata['run']}, {checkpoint.created}" if found else "",
        seconds=seconds,
        curve=_curve(checkpoint.metadata.get("curve", [])),
        confusion=confusion,
        scores=measured,
        evaluation=_reference(evaluation) if evaluation else None,
        chosen=chosen,
        exemplars=exemplars,
        predictions=predictions,
    )


@dataclass(frozen=True)
class _Before:
    """The step before one that is judged, and its table of :func:`by_image`."""

    step: model.StepResult
    table: np.ndarray | None


def _learned_from(checkpoint: Manifest, dataset: Dataset) -> bool:
    """Whether a model is of this data set's run: one that learned from other data is the teacher
    of an extension, and not what is judged.
    """
    return (checkpoint.metadata.get("dataset") or {}).get("digest") == dataset.digest


def _judged(
    step: model.StepResult,
    table: np.ndarray | None,
    before: _Before | None,
    scenario: Scenario,
    task: Task,
    dataset: Dataset,
) -> tuple[model.GateCheck, ...]:
    """What the gate says of a step; of what was not scored, that it is not measured."""
    if before is None:
        return judge(scenario.gate, None, step.scores, task.classes, step.new_classes)
    lost: LossIntervals | None = None
    if before.table is not None and table is not None:
        places = {r.id: i for i, r in enumerate(splits.test(dataset, task, step.step))}
        tested = splits.test(dataset, task, before.step.step)
        absent_classes_count = PROTOCOLS[scenario.protocol].absent_classes_count
        among = [places[record.id] for record in tested]
        lost = losses(before.table, table, among, absent_classes_count)
    teacher = before.step.scores
    return judge(scenario.gate, teacher, step.scores, task.classes, step.new_classes, lost)


def by_image(evaluation: Manifest | None) -> np.ndarray | None:
    """Each test image's pixels by channel, as :data:`dkd.steps.step.BY_IMAGE` holds them; None if
    there is no evaluation, or it was made before they were kept.
    """
    if evaluation is None or BY_IMAGE not in evaluation.parts:
        return None
    content = io.BytesIO(artifacts.read_part(evaluation, BY_IMAGE))
    table: np.ndarray = np.load(content, allow_pickle=False)
    return table


def _references(evaluation: Manifest) -> tuple[model.Reference, ...]:
    return tuple(
        model.Reference(
            id=name,
            image=artifacts.read_part(evaluation, f"pictures/{i}.image.jpg"),
            truth=artifacts.read_part(evaluation, f"pictures/{i}.truth.png"),
        )
        for i, name in enumerate(read_json(evaluation, EVALUATION)["pictures"])
    )


def _start(checkpoint: Manifest) -> str:
    """What step 0 started from; older checkpoints do not say."""
    start = checkpoint.metadata.get("initial_weights")
    return in_words(start) if start else ""


def _exemplars(memory: Manifest) -> tuple[model.ShownExemplar, ...]:
    listed = read_json(memory, MEMORY)["exemplars"]
    return tuple(
        model.ShownExemplar(
            id=row["id"],
            thumbnail=artifacts.read_part(memory, f"thumbnails/{i}.jpg"),
            classes=row["classes"],
        )
        for i, row in enumerate(listed)
        if f"thumbnails/{i}.jpg" in memory.parts
    )


def _curve(points: Sequence[dict[str, float]]) -> model.Curve:
    terms = [name for name in points[0] if name != "iteration"] if points else []
    return model.Curve.of(
        [int(point["iteration"]) for point in points],
        {name: [point[name] for point in points] for name in terms},
    )


def _reference(manifest: Manifest) -> model.ArtifactRef:
    return model.ArtifactRef(uri=manifest.uri, digest=manifest.digest)


def scores(
    confusion: Sequence[Sequence[int]],
    scenario: Scenario,
    task: Task,
    by_image: np.ndarray | None = None,
) -> model.Scores:
    """Scores of a confusion matrix; the old classes are those of the task's step 0, for the
    joint model too, so that methods compare.

    Args:
        confusion: pixel counts, rows truth.
        scenario: whose protocol says how absent classes count.
        task: class names by step.
        by_image: what intervals are computed of; without it there are none.
    """
    counts: list[int] = []
    for count in task.counts:
        if sum(counts) < len(confusion) - 1:
            counts.append(count)
    absent_classes_count = PROTOCOLS[scenario.protocol].absent_classes_count
    found = scoring.scores(confusion, counts, absent_classes_count)
    within: model.Intervals | None = None
    if by_image is not None:
        measured = intervals(by_image, counts, absent_classes_count)
        within = model.Intervals(**asdict(measured))
    return model.Scores(
        iou=found.iou,
        miou_all=found.miou_all,
        miou_old=found.miou_old,
        miou_new=found.miou_new,
        hiou=found.hiou,
        pixel_accuracy=found.pixel_accuracy,
        intervals=within,
    )


def colours(dataset: Dataset, task: Task) -> tuple[tuple[int, int, int], ...]:
    """The data set's colours of background and of the task's classes, by channel.

    Classes that it does not have (a model's old ones, beside new data) get colours of their own.
    """
    known = {name: dataset.palette[value] for name, value in dataset.values.items()}
    channels = {name: channel for channel, name in enumerate(task.classes, start=1)}
    others = (channel for name, channel in channels.items() if name not in known)
    made = distinct_colours(others, taken=dataset.palette.values())
    return (
        dataset.palette[BACKGROUND],
        *(known[name] if name in known else made[channel] for name, channel in channels.items()),
    )


def publish(result: model.RunResult, root: str, run: str) -> str:
    """Keeps a run's result and page under the artifact root; returns the result's URI."""
    folder = storage.join(root, "runs", run)
    storage.write_bytes(storage.join(folder, PAGE), page([result]).encode())
    uri = storage.join(folder, RESULT)
    storage.write_bytes(uri, result.to_json())
    return uri


def page(results: Sequence[model.RunResult]) -> str:
    """The report of one or several runs, as HTML."""
    from dkd.report.page import render  # templates and charts: most tasks that collect show none

    return render(results, title=results[0].scenario)


def load(uri: str) -> model.RunResult:
    """A run's result document."""
    return model.RunResult.from_json(storage.read_bytes(uri), source=uri)
