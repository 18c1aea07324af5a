"""Removing images from all that shows them under a root: a person's request.

Memories and evaluations keep their places: the manifest is replaced in one go by that of one
without the images, and then the old parts are deleted. So a finished run that is started again
trains the steps that used such a memory anew, without them; nothing chooses them again unless they
are still in the data set. Data sets are their owner's: :class:`Listed` says what is to be done.

What was learned from an image cannot be taken out of a model: :mod:`dkd.memory.influence`.
"""

import json
import shutil
import tempfile
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from dkd import storage
from dkd.data import packed
from dkd.data.index import Dataset
from dkd.data.records import Record
from dkd.errors import UserError
from dkd.memory import rewriting
from dkd.memory.influence import Seen, seen_by
from dkd.report import collect
from dkd.report.page import shows
from dkd.steps.retention import LEFTOVER_AGE, Survey, place_of
from dkd.steps.stages import RESULT
from dkd.steps.step import EVALUATION, MEMORY, keeps_statistics, read_json
from dkd.storage import artifacts
from dkd.storage.artifacts import MANIFEST, Manifest
from dkd.storage.cache import artifact_caches
from dkd.storage.store import Entry, Unfinished

_SHOWING = ("datasets", "evaluations", "memories")
"""Folders of artifacts that hold images, or what was made of them."""

NOT_REACHED = (
    "not reached: data sets (above), what models learned, pages that people saved or that Kubeflow "
    "Pipelines keeps, other machines' caches (the same command there), old versions that a bucket "
    "keeps"
)


_OF_STATISTICS = "; so did its statistics, sums over all images of a class that none leaves"


@dataclass(frozen=True)
class Held:
    """A memory or an evaluation that holds some of the images.

    Attributes:
        manifest: the artifact.
        rows: places of the images in its list.
        size: length of that list.
    """

    manifest: Manifest
    rows: tuple[int, ...]
    size: int


@dataclass(frozen=True)
class Listed:
    """A data set that lists some of the images.

    Attributes:
        manifest: the artifact.
        dataset: its index.
        records: the images.
    """

    manifest: Manifest
    dataset: Dataset
    records: tuple[Record, ...]

    @property
    def remedy(self) -> str:
        """What its owner has to do."""
        if self.dataset.format != "packed":
            files = ", ".join(str(Path(self.dataset.root) / r.image) for r in self.records)
            return f"lists it; remove {files} and its mask"
        return (
            "holds it, packed; remove it from the folder that was packed, pack that again "
            f"(dkd data pack), then: dkd data rm {self.manifest.uri} --yes"
        )


@dataclass(frozen=True)
class Plan:
    """What forgetting some images takes.

    Attributes:
        root: artifact root.
        images: their ids.
        unknown: those that nothing names.
        memories: to be replaced.
        evaluations: likewise; the images are among their pictures.
        runs: whose results and reports show them.
        pages: of the workspace, which show them.
        cached: files and folders of this machine's cache that hold them.
        strays: objects that no artifact owns and that may hold them: killed writers left them.
        unfinished: uploads and temporary files, likewise.
        fresh: URIs of such objects that a writer may still be at.
        versions: of models by name, whose memory is among those that are replaced.
        models: that saw them.
        datasets: that list them; whoever trains on these learns them again.
    """

    root: str
    images: frozenset[str]
    unknown: tuple[str, ...]
    memories: tuple[Held, ...]
    evaluations: tuple[Held, ...]
    runs: tuple[str, ...]
    pages: tuple[Path, ...]
    cached: tuple[Path, ...]
    strays: tuple[str, ...]
    unfinished: tuple[Unfinished, ...]
    fresh: tuple[str, ...]
    versions: tuple[str, ...]
    models: tuple[Seen, ...]
    datasets: tuple[Listed, ...]

    def lines(self) -> Iterator[str]:
        """What is done, and what is not, for people."""
        for held in self.memories:
            what = f"holds {len(held.rows)} of them among {held.size} exemplars"
            yield f"memory      {held.manifest.uri}: {what}"
        for held in self.evaluations:
            what = f"shows {len(held.rows)} of them among {held.size} pictures"
            yield f"evaluation  {held.manifest.uri}: {what}"
        for name in self.runs:
            yield f"report      of run {name}: shows a picture"
        for page in self.pages:
            yield f"page        {page}: shows a picture; it is deleted"
        for path in self.cached:
            yield f"cache       {path}: is deleted"
        for uri in (*self.strays, *(each.uri for each in self.unfinished)):
            yield f"left over   {uri}: a killed writer's, may hold it; it is deleted"
        for uri in self.fresh:
            yield f"left over   {uri}: may hold it, but a writer may be at it; ask again in a day"
        for name in self.versions:
            yield f"version     {name}: goes on with its memory without the images"
        for listed in self.datasets:
            yield f"data set    {listed.manifest.uri}: {listed.remedy}"
        for seen in self.models:
            model = seen.checkpoint
            yield (
                f"model       {model.uri} (run {model.metadata.get('run', 'unknown')}, "
                f"{model.created}) saw it: {'; '.join(seen.how)}"
                f"{_OF_STATISTICS if keeps_statistics(model) else ''}"
            )
        if not self.models:
            yield "no model under this root saw it"
        for name in self.unknown:
            yield f"image       {name}: nothing names it"


def plan(found: Survey, images: Collection[str], workspace: Path, now: datetime) -> Plan:
    """Looks for images in every memory, evaluation, data set and report under a root.

    An id is unique within a split of a data set: where two images share one, both are meant.

    Args:
        found: what lies there.
        images: their ids, as ``dkd memory show --images`` lists them.
        workspace: folder of ``dkd run`` on this machine, there or not.
        now: the present (aware).

    Raises:
        UserError: an image is nowhere; or storage failed.
    """
    wanted = frozenset(images)
    datasets = {
        place: packed.open_dataset(manifest.uri)[0]
        for place, manifest in found.manifests.items()
        if manifest.kind == packed.DATASET_KIND
    }
    listed = [
        Listed(found.manifests[place], dataset, records)
        for place, dataset in datasets.items()
        if (records := _records(dataset, wanted))
    ]
    memories, in_memories = _holding(found, "memory", wanted)
    evaluations, in_evaluations = _holding(found, "evaluation", wanted)
    runs = _showing(found, wanted)
    pages = {page: names for page in _pages(workspace) if (names := _shown(page, wanted))}
    cached = _in_caches(workspace, wanted, memories, listed)
    known = in_memories.union(
        in_evaluations,
        *({record.id for record in each.records} for each in listed),
        *(*runs.values(), *pages.values(), *cached.values()),
    )
    strays, unfinished, fresh = _strays(found, now)
    unknown = tuple(sorted(wanted - known))
    if unknown and not (strays or unfinished or fresh):
        raise UserError(
            f"{', '.join(unknown)}: no memory, evaluation, data set or report under {found.root} "
            "holds this image; `dkd memory show URI --images` lists a memory's"
        )
    holders = [place_of(found.root, held.manifest.uri) for held in memories]
    return Plan(
        root=found.root,
        images=wanted,
        unknown=unknown,
        memories=tuple(memories),
        evaluations=tuple(evaluations),
        runs=tuple(runs),
        pages=tuple(pages),
        cached=tuple(cached),
        strays=strays,
        unfinished=unfinished,
        fresh=fresh,
        versions=tuple(name for name, held in found.versions.items() if held & {*holders}),
        models=seen_by(found, wanted, holders, datasets),
        datasets=tuple(listed),
    )


def apply(chosen: Plan) -> None:
    """Replaces memories, evaluations and reports; removes what shows the images on this machine.

    Raises:
        UserError: storage failed; what was not done yet is done when it is started again.
    """
    for held in (*chosen.memories, *chosen.evaluations):
        with tempfile.TemporaryDirectory(prefix="dkd-forget-") as work:
            old, parts = held.manifest, Path(work) / "old"
            artifacts.fetch(old.uri, parts)
            if old.kind == "memory":
                new = rewriting.memory_without(parts, old, held.rows, Path(work))
            else:
                new = rewriting.evaluation_without(parts, held.rows)
            forgotten = old.metadata.get("forgotten", 0) + len(held.rows)
            artifacts.replace(old, new, metadata={**old.metadata, "forgotten": forgotten})
    for name in chosen.runs:
        result = collect.load(storage.join(chosen.root, "runs", name, RESULT))
        collect.publish(rewriting.result_without(result, chosen.images), chosen.root, name)
    storage.delete(chosen.strays)
    storage.abandon(chosen.unfinished)
    for path in (*chosen.pages, *chosen.cached):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def _records(dataset: Dataset, wanted: frozenset[str]) -> tuple[Record, ...]:
    """The data set's records of these images, in any split."""
    return tuple(r for records in dataset.splits.values() for r in records if r.id in wanted)


def _holding(found: Survey, kind: str, wanted: frozenset[str]) -> tuple[list[Held], frozenset[str]]:
    """The memories or evaluations that hold some of the images, and which images those are."""
    holding, named = list[Held](), frozenset[str]()
    for manifest in found.manifests.values():
        if manifest.kind == kind:
            ids = _ids(manifest)
            if rows := tuple(i for i, name in enumerate(ids) if name in wanted):
                holding.append(Held(manifest, rows, len(ids)))
                named |= wanted.intersection(ids)
    return holding, named


def _showing(found: Survey, wanted: frozenset[str]) -> dict[str, frozenset[str]]:
    """The finished runs whose results show some of the images, and which those are."""
    results = {
        name: collect.load(storage.join(found.root, "runs", name, RESULT))
        for name, run in found.runs.items()
        if run.finished
    }
    shown = {name: wanted & rewriting.shown(result) for name, result in results.items()}
    return {name: images for name, images in shown.items() if images}


def _ids(manifest: Manifest) -> list[str]:
    """Ids that a memory or an evaluation lists."""
    if manifest.kind == "memory":
        return [row["id"] for row in read_json(manifest, MEMORY)["exemplars"]]
    return [str(name) for name in read_json(manifest, EVALUATION)["pictures"]]


def _pages(workspace: Path) -> Iterator[Path]:
    """Pages that runs on this machine wrote: reports, and those that KFP's local runner keeps."""
    yield from sorted(workspace.glob("*.html"))
    for name in ("report_page", "step_page"):
        yield from sorted(path for path in (workspace / "runs").rglob(name) if path.is_file())


def _shown(page: Path, images: Iterable[str]) -> frozenset[str]:
    """Which of these images a page shows."""
    text = page.read_text(encoding="utf-8", errors="replace")
    return frozenset(image for image in images if shows(text, image))


def _in_caches(
    workspace: Path,
    images: frozenset[str],
    memories: Sequence[Held],
    datasets: Sequence[Listed],
) -> dict[Path, frozenset[str]]:
    """What the caches of this machine hold of the images, with the ids that it is known by."""
    found = dict[Path, frozenset[str]]()
    for cache in artifact_caches(workspace):
        for path, names in _cached(cache, images, memories, datasets):
            found[path] = found.get(path, frozenset()) | names
    return found


def _cached(
    cache: Path, images: frozenset[str], memories: Iterable[Held], datasets: Iterable[Listed]
) -> Iterator[tuple[Path, frozenset[str]]]:
    """Likewise what one of them holds."""
    digests = {held.manifest.digest for held in memories}
    for document in sorted(cache.glob(f"*/{MEMORY}")):
        # Also of a memory that was replaced by another machine's request.
        rows = json.loads(document.read_text(encoding="utf-8"))["exemplars"]
        if held := images.intersection(row["id"] for row in rows):
            digests.add(document.parent.name)
            yield document.parent, held
    for digest in sorted(digests):
        for folder in (cache / digest, cache / f".{digest}.arriving", cache / f"memory-{digest}"):
            if folder.exists():
                yield folder, frozenset()
    for listed in datasets:
        for record in listed.records:
            for name in (record.image, record.mask):
                if (file := cache / listed.manifest.digest / name).is_file():
                    yield file, frozenset()


def _strays(
    found: Survey, now: datetime
) -> tuple[tuple[str, ...], tuple[Unfinished, ...], tuple[str, ...]]:
    """What no artifact and no result owns: objects and uploads that may go, and fresh ones.

    In the place of a whole artifact they may go at once if they are older than it: they are of a
    writer that came too late, or of a request like this one that was interrupted. Others are when
    they are a day old.
    """
    strays, fresh = list[str](), list[str]()
    for place, entries in found.by_place.items():
        folder, _, name = place.partition("/")
        owned, since = _owned(found.manifests.get(place), entries)
        for entry in entries:
            if folder == "runs":  # a report whose result did not come to be written
                stray = entry.uri.endswith(f"/{collect.PAGE}") and not found.runs[name].finished
            else:
                stray = folder in _SHOWING and entry.uri not in owned
            if stray:
                goes = (since and entry.modified <= since) or now - entry.modified >= LEFTOVER_AGE
                (strays if goes else fresh).append(entry.uri)
    sending = [u for u in found.unfinished if place_of(found.root, u.uri).split("/")[0] in _SHOWING]
    unfinished = tuple(each for each in sending if now - each.started >= LEFTOVER_AGE)
    fresh += [each.uri for each in sending if each not in unfinished]
    return tuple(strays), unfinished, tuple(fresh)


def _owned(
    manifest: Manifest | None, entries: Iterable[Entry]
) -> tuple[frozenset[str], datetime | None]:
    """URIs of an artifact's objects, and when it was published."""
    if manifest is None:
        return frozenset(), None
    uri = storage.join(manifest.uri, MANIFEST)
    parts = {manifest.part_uri(name) for name in manifest.parts}
    return frozenset({uri, *parts}), next(e.modified for e in entries if e.uri == uri)
