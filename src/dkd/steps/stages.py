"""What the pipeline's components do: prepare data, and have a step's stages done by its job.

Each function is what one component calls; on a cluster they run in the launcher image, which
holds no torch, and start jobs of the training image.
"""

import hashlib
import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

from dkd import methods, storage
from dkd.data import index, packed, splits
from dkd.data.index import Dataset
from dkd.errors import UserError
from dkd.launching import launcher
from dkd.launching.interface import Job
from dkd.scenario import strict_yaml
from dkd.scenario.data import Data
from dkd.scenario.gate import EXTENSION_GATE
from dkd.scenario.names import check_run_name, of_extension
from dkd.scenario.network import Network
from dkd.scenario.schema import Scenario, parse
from dkd.scenario.tasks import Task
from dkd.steps import initial_weights, lease
from dkd.steps.step import (
    STAGES,
    Stage,
    Step,
    StepSpec,
    differences,
    digest,
    known_classes,
    place,
    require_memory,
)
from dkd.storage import artifacts
from dkd.storage.artifacts import Manifest
from dkd.storage.cache import dataset_cache

RESULT = "result.json"
"""Name of a run's result document, in the run's folder."""


@dataclass(frozen=True)
class Prepared:
    """What :func:`prepare` hands to the steps.

    Attributes:
        scenario: with initial weights that every machine reaches.
        task: class names by step.
        dataset: URI of the data set artifact.
    """

    scenario: Scenario
    task: Task
    dataset: str


def parsed(document: str | bytes, source: str = "scenario") -> Scenario:
    """A scenario from JSON; ``source`` names it in errors."""
    return methods.check(parse(json.loads(document), source=source), source=source)


def resolved(scenario: str, task: Sequence[Sequence[str]]) -> tuple[Scenario, Task]:
    """A scenario and its task from a component's parameters.

    Raises:
        UserError: there is nothing at the scenario's URI, or no scenario.
    """
    document = parsed(storage.read_bytes(scenario), source=scenario)
    return document, Task(tuple(tuple(names) for names in task))


def step_spec(
    scenario: str,
    task: Sequence[Sequence[str]],
    step: float,
    dataset: str,
    root: str,
    teacher: str = "",
    memory: str = "",
    checkpoint: str = "",
) -> StepSpec:
    """The step that a component's parameters describe (KFP hands numbers over as floats)."""
    whole, whole_task = resolved(scenario, task)
    return StepSpec(
        scenario=whole,
        task=whole_task.steps,
        step=int(step),
        dataset=dataset,
        root=root,
        teacher=teacher,
        memory=memory,
        checkpoint=checkpoint,
    )


def lineage(manifest: Manifest) -> dict[str, Any]:
    """What KFP's record of a model says: the artifact and its origins, by URI and digest."""
    own = {"uri": manifest.uri, "digest": manifest.digest, "created": manifest.created}
    origins = {
        f"{name}_{field}": value
        for name in ("teacher", "memory", "dataset", "initial_weights")
        for field, value in (manifest.metadata.get(name) or {}).items()
    }
    return own | origins


def prepare(scenario: Scenario, root: str, progress: Callable[[str], None] = print) -> Prepared:
    """Checks the data set, publishes its index (and its images when packed), checks the task and
    the initial weights.

    Every step must have images before anything is trained, so that a missing class is told now
    and not after days.

    Raises:
        UserError: what is wrong with the method, the data set or the task, or initial weights are
            missing.
    """
    methods.check(scenario)
    storage.require_conditional_writes(root)
    dataset, uri = _publish_dataset(scenario.data, root, progress)
    task = Task.of(scenario.task, dataset.classes)
    for step in range(len(task.steps)):
        images = splits.training(dataset, task, scenario.setting, step)
        test = splits.test(dataset, task, step)
        progress(
            f"step {step}: {', '.join(task.steps[step])}: "
            f"{len(images)} training images, {len(test)} test images"
        )
    return Prepared(initial_weights.prepare(scenario, root, progress), task, uri)


@dataclass(frozen=True)
class Extension:
    """What :func:`prepare_extension` hands to the step that adds the classes.

    Attributes:
        scenario: how the new step is trained.
        task: the teacher's classes by step, then the new ones.
        dataset: URI of the new data.
        step: number of the new step.
    """

    scenario: Scenario
    task: Task
    dataset: str
    step: int


def prepare_extension(
    teacher: str,
    classes: Sequence[str],
    data: Data,
    settle: Callable[[Scenario], Scenario],
    root: str,
    progress: Callable[[str], None] = print,
    memory: str = "",
) -> Extension:
    """Checks a model, its memory, new classes and their data before anything is trained.

    The new step is trained as the teacher's scenario trains its later steps.

    Args:
        teacher: URI of any checkpoint.
        classes: names of the new classes, as the data set has them.
        data: images in which these are labelled; old classes may be, for the evaluation.
        settle: replaces values of the teacher's scenario.
        root: artifact root.
        progress: prints a line.
        memory: URI of the exemplar memory that goes with the teacher; empty without.

    Raises:
        UserError: a class is known already, is not in the data, or has no image; teacher or memory
            is something else, or the memory was chosen for other classes.
    """
    checkpoint = artifacts.load(teacher)
    known = known_classes(checkpoint, "checkpoint")
    if memory:
        require_memory(artifacts.load(memory), known)
    document = checkpoint.metadata.get("scenario")
    if document is None:
        raise UserError(f"{teacher}: {checkpoint.kind} without a scenario; name a checkpoint")
    storage.require_conditional_writes(root)
    dataset, uri = _publish_dataset(data, root, progress)
    for name in classes:
        if not isinstance(name, str):
            quoted = strict_yaml.quoted(name)
            raise UserError(f"new classes: {name!r} is not a name; write {quoted}")
    fresh = Task.of([list(classes)], dataset.classes, source="new classes").classes
    for name in fresh:
        if any(name in names for names in known):
            raise UserError(f"new classes: the model knows {name!r} already; leave it out")
    task = Task((*(tuple(names) for names in known), fresh))
    step = len(known)
    fields = {
        "name": of_extension(fresh, checkpoint.digest),
        "data": data.model_dump(),
        "task": task.steps,
    }
    teachers = _further(document, fields, teacher)
    scenario = methods.check(settle(teachers))
    images = splits.training(dataset, task, scenario.setting, step)
    progress(f"step {step}: {', '.join(fresh)}: {len(images)} training images")
    return Extension(scenario, task, uri, step)


def _further(document: Mapping[str, Any], fields: Mapping[str, Any], teacher: str) -> Scenario:
    """How a model learns another step: as its scenario trains its later steps.

    Args:
        document: its scenario's.
        fields: that are the new step's own: name, data, task.
        teacher: its URI, for the errors.
    """
    scenario = parse(
        {
            **document,
            # What the teacher once started from is no part of it: the new step starts from it.
            "network": Network.of_structure(document["network"]).structure(),
            "label": "",
            "variants": {},
            **_way_on(document),
            **fields,
        },
        source=teacher,
    )
    return scenario if scenario.gate.asks else scenario.model_copy(update={"gate": EXTENSION_GATE})


def _way_on(document: Mapping[str, Any]) -> dict[str, Any]:
    """How a model learns further: as it learned, unless that was one of the bounds.

    Args:
        document: its scenario's.

    Raises:
        UserError: the package that brings its method is not installed.
    """
    name = document.get("method", "dkd")
    if methods.get(name).joint or name == "finetune":
        return {"method": "dkd", "method_options": {}}
    return {"method": name, "method_options": document.get("method_options", {})}


def _publish_dataset(data: Data, root: str, progress: Callable[[str], None]) -> tuple[Dataset, str]:
    if data.format == "packed":
        dataset, _ = packed.open_dataset(data.root)
        return dataset, data.root
    dataset = index.build(data, dataset_cache(), tell=lambda line: progress(f"note: {line}"))
    uri = place(root, "datasets", {"dataset": dataset.digest, "packed": data.pack})
    if artifacts.find(uri) is None:
        if data.pack:
            packed.pack(dataset, uri, work=dataset_cache())
        else:
            packed.publish_index(dataset, uri)
    counts = ", ".join(f"{len(records)} {name}" for name, records in dataset.splits.items())
    progress(f"data set: {dataset.name}, {counts} images, {uri}")
    return packed.open_dataset(uri)[0], uri


def ensure(
    spec: StepSpec,
    run: str,
    wanted: Collection[Stage] = STAGES,
    say: Callable[[str], None] = print,
) -> dict[Stage, Manifest]:
    """A step's results: found where they were made before, else made by the step's job now.

    Args:
        spec: the step.
        run: name of the run, kept with what is made so that a later run can say its origin.
        wanted: which results are asked for.
        say: prints a line.

    Returns:
        Those that the step has: no evaluation without test images, no memory of size 0.

    Raises:
        UserError: bad inputs, or the job failed.
    """
    step = Step.open(spec)
    asked = tuple(stage for stage in step.stages if stage in wanted)
    # Named before it is there: what a running job saves and is about to publish is in use.
    note_uses(spec.root, run, (spec.dataset, spec.teacher, spec.memory))
    identity = None if spec.checkpoint else step.checkpoint_identity  # that one has another key
    note_uses(spec.root, run, (step.checkpoint_uri,), identity)
    lacking = partial(missing_stages, step, asked)
    before = lacking()
    while missing := lacking():
        with lease.held(_lease(step, missing), run, lambda: not lacking(), say) as place:
            if missing := lacking():
                _make(step, missing, run, place)
    made = {stage: artifacts.load(result_uri(step, stage)) for stage in asked}
    note_uses(spec.root, run, (made[stage].uri for stage in asked if stage != "train"))
    for stage, manifest in made.items():
        maker = manifest.metadata.get("run")
        if stage not in before or maker != run:
            verb = "done" if maker == run else f"found, made by run {maker}"
            say(f"step {spec.step} {stage}: {verb} at {manifest.created}, {manifest.uri}")
    return made


def _made_by_job(step: Step, missing: Sequence[Stage]) -> str:
    """What names the step's job: its own checkpoint, or what is made of one that was there."""
    return result_uri(step, missing[0]) if step.spec.checkpoint else step.checkpoint_uri


def _lease(step: Step, missing: Sequence[Stage]) -> str:
    key = _made_by_job(step, missing).rstrip("/").rpartition("/")[2]
    return storage.join(step.spec.root, "leases", key)


def _make(step: Step, missing: Sequence[Stage], run: str, place: str) -> None:
    """Has the step's job make what is missing, all of it while its processes are warm.

    The job is named by what it makes, not by who asks: one that runs already is adopted, whichever
    run started it.
    """
    arguments = ("--step", step.spec.model_dump_json(), "--stages", ",".join(missing))
    launcher(step.scenario.launch).run(
        Job(
            name=f"dkd-{digest(_made_by_job(step, missing))[:16]}",
            module="dkd.train",
            arguments=(*arguments, "--run-name", run, "--lease", place),
            result=result_uri(step, missing[0]),
        )
    )


def note_uses(
    root: str, run: str, uris: Iterable[str], identity: Mapping[str, Any] | None = None
) -> None:
    """Keeps with the run which artifacts under the root it uses: :mod:`dkd.steps.retention` asks.

    Objects ``runs/<run>/uses/<folder>/<key>``, so that a listing tells; empty, but for that of a
    checkpoint, which may have yet to be made.

    Args:
        root: artifact root.
        run: name of the run.
        uris: of the artifacts.
        identity: what a checkpoint's key is made of; :mod:`dkd.steps.explanation` asks.
    """
    content = b"" if identity is None else json.dumps(identity).encode()
    for uri in uris:
        folder = root.rstrip("/") + "/"
        inside = uri.removeprefix(folder)
        if uri.startswith(folder) and inside.count("/") == 1:
            storage.write_bytes(storage.join(root, "runs", run, "uses", inside), content)


def missing_stages(step: Step, asked: Sequence[Stage]) -> tuple[Stage, ...]:
    """The stages of those asked for that have no result yet. The others are not looked for: where
    a model is scored on new data, these may show no class that its memory was chosen for.
    """
    checkpoint = artifacts.find(step.checkpoint_uri)
    if checkpoint is None:
        return tuple(asked)
    return tuple(s for s in asked if artifacts.find(step.uri(s, checkpoint)) is None)


def result_uri(step: Step, stage: Stage) -> str:
    """Where the stage's result lies, once the step is trained."""
    if stage == "train":
        return step.checkpoint_uri
    return step.uri(stage, artifacts.load(step.checkpoint_uri))


def claim_run(
    root: str, run: str, scenario: Scenario, inputs: Mapping[str, str] | None = None
) -> bool:
    """Takes the run's name, or checks that it is the same scenario's half-finished run.

    Args:
        root: artifact root.
        run: its name.
        scenario: that is run.
        inputs: URI of every artifact that it begins from, by what it is; empty where there is none.

    Returns:
        Whether the name was free.

    Raises:
        UserError: a name that no run can have, or another scenario ran under it, or the same one
            from other artifacts; the first differences are named.
    """
    uri = _claim(root, run)
    digests = {k: artifacts.load(v).digest if v else "" for k, v in (inputs or {}).items()}
    ours = result_fields(scenario) | digests
    document = json.dumps(ours, sort_keys=True, indent=1).encode()
    if storage.write_bytes(uri, document, if_absent=True):
        return True
    theirs = as_today(storage.read_document(uri))
    if changed := differences(theirs, ours):
        raise UserError(
            f"run {run!r} exists with another scenario ({'; '.join(changed[:3])}); "
            "give the new run another name (--run-name)"
        )
    return False


def write_resolved(root: str, run: str, scenario: Scenario) -> str:
    """Writes what a run's tasks go by into the run's folder, under its content's name; its URI.

    Tasks hand on the URI: the scenario itself is a page of escaped JSON, which Kubeflow Pipelines
    would show before every task's other inputs.
    """
    document = scenario.model_dump_json(indent=1).encode()
    name = f"resolved-{hashlib.sha256(document).hexdigest()[:16]}.json"
    uri = storage.join(root, "runs", check_run_name(run), name)
    storage.write_bytes(uri, document, if_absent=True)
    return uri


@contextmanager
def claimed(root: str, run: str, scenario: Scenario) -> Iterator[None]:
    """Takes the run's name as :func:`claim_run` does, and gives a name that was free back if what
    is done inside is refused: the mended scenario may then have it.

    It is taken first all the same: who removes other runs sees by it that this one has begun.
    """
    was_free = claim_run(root, run, scenario)
    try:
        yield
    except UserError:
        if was_free:
            storage.delete([_claim(root, run)])
        raise


def _claim(root: str, run: str) -> str:
    return storage.join(root, "runs", check_run_name(run), "scenario.json")


def result_fields(scenario: Scenario) -> dict[str, Any]:
    """The scenario without what changes no result, and with what the method says in its place:
    how a model goes on does not change with the program's defaults.
    """
    left_out = {"description", "licence", "gate", "speed", "launch", "variants"}
    document = scenario.model_dump(mode="json", exclude=left_out)
    own = methods.get(scenario.method).pos_weight
    document["training"]["pos_weight"]["later"] = scenario.training.pos_weight.at(1, own)
    return document


def as_today(document: Mapping[str, Any]) -> Mapping[str, Any]:
    """What any version of the program kept of a scenario, as :func:`result_fields` gives it today:
    with the defaults of fields that there are since. Whatever else is there stays; as it was where
    it is no scenario today.
    """
    fields = {name: value for name, value in document.items() if name in Scenario.model_fields}
    try:
        return {**document, **result_fields(parse(fields, source=""))}
    except UserError:
        return document
