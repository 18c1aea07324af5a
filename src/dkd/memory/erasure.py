"""Removing images from every exemplar memory under a root: a person's request.

A memory keeps its place: its manifest is replaced in one go by that of a memory without the
images, and then the old parts are deleted. So a finished run that is started again trains its later
steps anew, without them; nothing chooses them again unless they are still in the data set.

What was learned from an image cannot be taken out of a model. :func:`plan` says which models saw
it: they trained on it as an image of their own step or as an exemplar, or began as a copy of a
model that did.
"""

import io
import json
import shutil
import tarfile
import tempfile
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dkd import storage
from dkd.data import packed, splits
from dkd.data.index import Dataset
from dkd.errors import UserError
from dkd.methods import METHODS
from dkd.report import collect
from dkd.report.model import RunResult
from dkd.scenario.schema import parse
from dkd.scenario.tasks import Task
from dkd.steps.retention import Survey, tail
from dkd.steps.step import read_json
from dkd.storage import artifacts
from dkd.storage.artifacts import Manifest
from dkd.storage.cache import artifact_cache

MEMORY = "memory.json"


@dataclass(frozen=True)
class Held:
    """A memory that holds some of the images.

    Attributes:
        manifest: the memory.
        rows: places of the images in its list.
        size: length of that list.
    """

    manifest: Manifest
    rows: tuple[int, ...]
    size: int


@dataclass(frozen=True)
class Seen:
    """A model that saw some of the images.

    Attributes:
        checkpoint: the model.
        how: ``its own step's image``, ``an exemplar``, ``through its teacher``; or that its
            data set is not there to be asked.
    """

    checkpoint: Manifest
    how: tuple[str, ...]


@dataclass(frozen=True)
class Plan:
    """What forgetting some images takes.

    Attributes:
        root: artifact root.
        images: their ids.
        memories: to be replaced.
        models: that saw them.
        datasets: that list them; whoever trains on these learns them again.
        runs: whose reports show them.
    """

    root: str
    images: frozenset[str]
    memories: tuple[Held, ...]
    models: tuple[Seen, ...]
    datasets: tuple[Manifest, ...]
    runs: tuple[str, ...]


def plan(found: Survey, images: Collection[str]) -> Plan:
    """Looks for images in every memory, data set and report under a root.

    Args:
        found: what lies there.
        images: their ids, as ``dkd memory show --images`` lists them.

    Raises:
        UserError: an image is nowhere; or storage failed.
    """
    wanted, known = frozenset(images), set[str]()
    memories, datasets, runs = [], dict[str, tuple[Manifest, Dataset]](), []
    for place, manifest in found.manifests.items():
        if manifest.kind == "memory":
            listed = [row["id"] for row in read_json(manifest, MEMORY)["exemplars"]]
            rows = tuple(i for i, name in enumerate(listed) if name in wanted)
            if rows:
                memories.append(Held(manifest, rows, len(listed)))
                known |= wanted.intersection(listed)
        elif manifest.kind == packed.KIND:
            dataset, _ = packed.open_dataset(manifest.uri)
            listed = [record.id for records in dataset.splits.values() for record in records]
            datasets[place] = (manifest, dataset)
            known |= wanted.intersection(listed)
    for name, run in found.runs.items():
        if run.finished:
            result = collect.load(storage.join(found.root, "runs", name, collect.RESULT))
            shown = wanted.intersection(_shown(result))
            known |= shown
            if shown:
                runs.append(name)
    if missing := sorted(wanted - known):
        raise UserError(
            f"{', '.join(missing)}: no memory, data set or report under {found.root} holds this "
            "image; `dkd memory show URI --images` lists a memory's"
        )
    listing = tuple(m for m, d in datasets.values() if wanted & _ids(d))
    models = seen_by(found, wanted, memories, {p: d for p, (_, d) in datasets.items()})
    return Plan(found.root, wanted, tuple(memories), models, listing, tuple(runs))


def seen_by(
    found: Survey,
    images: frozenset[str],
    memories: Iterable[Held],
    datasets: Mapping[str, Dataset],
) -> tuple[Seen, ...]:
    """The models under a root that saw some images, oldest first."""
    holding = {held.manifest.digest for held in memories}
    models = sorted(
        (m for m in found.manifests.values() if m.kind == "checkpoint"), key=lambda m: m.created
    )
    how: dict[str, list[str]] = {}
    for model in models:
        reasons = how.setdefault(tail(model.uri), [])
        if (memory := model.metadata.get("memory")) and memory["digest"] in holding:
            reasons.append("an exemplar")
        reference = model.metadata.get("dataset")
        if reference and reference.get("uri"):
            dataset = datasets.get(tail(reference["uri"]))
            if dataset is None:
                reasons.append("perhaps: its data set is not under this root")
            elif images & _trained_on(model, dataset):
                reasons.append("its own step's image")
    changed = True
    while changed:
        changed = False
        for model in models:
            teacher = model.metadata.get("teacher")
            reasons = how[tail(model.uri)]
            word = "through its teacher"
            if teacher and word not in reasons and how.get(tail(teacher["uri"])):
                reasons.append(word)
                changed = True
    return tuple(Seen(m, tuple(how[tail(m.uri)])) for m in models if how[tail(m.uri)])


def apply(chosen: Plan) -> None:
    """Replaces the memories and the reports; clears this machine's cache of the old ones.

    Raises:
        UserError: storage failed; what was not done yet is done when it is started again.
    """
    for held in chosen.memories:
        with tempfile.TemporaryDirectory(prefix="dkd-forget-") as work:
            old = held.manifest
            artifacts.fetch(old.uri, Path(work) / "old")
            parts = without(Path(work) / "old", old, frozenset(held.rows), Path(work))
            forgotten = old.metadata.get("forgotten", 0) + len(held.rows)
            artifacts.replace(old, parts, metadata={**old.metadata, "forgotten": forgotten})
        for name in (old.digest, f"memory-{old.digest}"):
            shutil.rmtree(artifact_cache() / name, ignore_errors=True)
    for name in chosen.runs:
        result = collect.load(storage.join(chosen.root, "runs", name, collect.RESULT))
        collect.publish(_hidden(result, chosen.images), chosen.root, name)


def without(
    folder: Path, manifest: Manifest, rows: frozenset[int], work: Path
) -> dict[str, Path | bytes]:
    """A memory's parts without some rows of its list.

    Args:
        folder: its parts, downloaded.
        manifest: that lists them.
        rows: to leave out.
        work: folder for the parts that are written anew.
    """
    document: dict[str, Any] = json.loads((folder / MEMORY).read_text())
    exemplars = document["exemplars"]
    kept = [i for i in range(len(exemplars)) if i not in rows]
    gone = {exemplars[i][file] for i in rows for file in ("image", "mask")}
    document["exemplars"] = [exemplars[i] for i in kept]
    parts: dict[str, Path | bytes] = {MEMORY: json.dumps(document, indent=1).encode()}
    for new, old in enumerate(kept):
        if f"thumbnails/{old}.jpg" in manifest.parts:
            parts[f"thumbnails/{new}.jpg"] = folder / f"thumbnails/{old}.jpg"
    for name in manifest.parts:
        if name.endswith(".tar"):
            parts[name] = _shard_without(folder / name, gone, work / name)
    return parts


def _shard_without(shard: Path, gone: Collection[str], target: Path) -> Path:
    with tarfile.open(shard) as source, tarfile.open(target, "w") as kept:
        for member in source:
            content = source.extractfile(member)
            if member.name not in gone and content is not None:
                kept.addfile(member, io.BytesIO(content.read()))
    return target


def _trained_on(model: Manifest, dataset: Dataset) -> frozenset[str]:
    """Ids of the images of the model's own step; every training image if it does not say which."""
    document = model.metadata.get("scenario")
    if document is None:
        return frozenset(record.id for record in dataset.train)
    scenario = parse(document, source=model.uri)
    task = Task.of(scenario.task, dataset.classes)
    if METHODS[scenario.method].joint:
        task = task.joint()
    step = read_json(model, "checkpoint.json")["step"]
    return frozenset(r.id for r in splits.training(dataset, task, scenario.setting, step))


def _ids(dataset: Dataset) -> frozenset[str]:
    return frozenset(record.id for records in dataset.splits.values() for record in records)


def _shown(result: RunResult) -> Iterable[str]:
    return (exemplar.id for step in result.steps for exemplar in step.exemplars)


def _hidden(result: RunResult, images: frozenset[str]) -> RunResult:
    steps = tuple(
        step.model_copy(
            update={"exemplars": tuple(e for e in step.exemplars if e.id not in images)}
        )
        for step in result.steps
    )
    return result.model_copy(update={"steps": steps})
