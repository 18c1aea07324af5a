"""What lies under an artifact root, which run uses it, and what goes when a run is removed.

Results are shared: a step that was trained once is found by every run that has it. So a run's
results may go only when no other run uses them. A run uses

* what it noted (:func:`dkd.steps.stages.note_uses`): its inputs and its checkpoint *before* it is
  trained, so that a running job keeps its saves and what it is about to publish;
* what it made (manifests name the run) and what its result names;
* what these were made of: teachers, memories and data sets, and so on.

A version of a named model (``models/<name>/versions/``) uses what it names and what that was made
of, as a run does.

What neither uses (imported models, packed data sets, results of removed runs) is nobody's to
remove here. Only leftovers of killed writers (saves, leases, parts without a manifest, uploads)
go with any removal once they are older than a day: a writer that still works may not have said so.

:func:`survey` reads; the rest are pure functions of what it read, but for :func:`remove`.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cached_property
from typing import Any

from dkd import methods, storage
from dkd.errors import UserError
from dkd.steps.stages import RESULT
from dkd.storage import artifacts
from dkd.storage.artifacts import Manifest
from dkd.storage.store import Entry, Unfinished

FOLDERS = ("datasets", "checkpoints", "evaluations", "memories")
LEFTOVER_AGE = timedelta(days=1)
"""Age from which on leftovers are taken for those of a killed writer."""
ACTIVE = timedelta(hours=1)
"""A run that is not finished and wrote something within this time may be running."""
_READERS = 16
_VERSION = re.compile(r"models/([^/]+)/(versions|production)/(\d+)\.json")


@dataclass(frozen=True)
class Run:
    """What the root says about a run.

    Attributes:
        name: of the run.
        scenario: its claimed scenario; empty for single steps (``dkd train``).
        noted: ``<folder>/<key>`` of what it noted or its result names.
        finished: it has a result.
        started: when its first object was written.
        written: when its last one was.
    """

    name: str
    scenario: Mapping[str, Any]
    noted: frozenset[str]
    finished: bool
    started: datetime
    written: datetime


@dataclass(frozen=True)
class Survey:
    """Everything under a root.

    Attributes:
        root: artifact root.
        objects: all objects.
        manifests: whole artifacts by ``<folder>/<key>``.
        runs: by name.
        unfinished: what killed, or working, writers have begun.
        versions: ``<folder>/<key>`` of what each version of a model names, by how it is called
            (``model street version 3 (in production)``).
    """

    root: str
    objects: tuple[Entry, ...]
    manifests: Mapping[str, Manifest]
    runs: Mapping[str, Run]
    unfinished: tuple[Unfinished, ...] = ()
    versions: Mapping[str, frozenset[str]] = field(default_factory=dict)

    @cached_property
    def by_place(self) -> dict[str, list[Entry]]:
        """Objects by ``<folder>/<key>``."""
        found: dict[str, list[Entry]] = {}
        for entry in self.objects:
            found.setdefault(place_of(self.root, entry.uri), []).append(entry)
        return found

    @cached_property
    def uses(self) -> dict[str, frozenset[str]]:
        """``<folder>/<key>`` of all that each run uses, there or not."""
        return {name: self._reached(self._begun(run)) for name, run in self.runs.items()}

    @cached_property
    def held(self) -> dict[str, frozenset[str]]:
        """``<folder>/<key>`` of all that each version of a model uses, there or not."""
        return {name: self._reached(places) for name, places in self.versions.items()}

    def size(self, places: Iterable[str]) -> int:
        """Bytes of all objects there."""
        return sum(entry.size for place in places for entry in self.by_place.get(place, ()))

    def written(self, place: str) -> datetime:
        """When the place's newest object was written."""
        return max(entry.modified for entry in self.by_place[place])

    def _begun(self, run: Run) -> frozenset[str]:
        made = {p for p, m in self.manifests.items() if m.metadata.get("run") == run.name}
        return run.noted | made

    def _reached(self, places: frozenset[str]) -> frozenset[str]:
        waiting, reached = set(places), set[str]()
        while waiting:
            place = waiting.pop()
            reached.add(place)
            if (manifest := self.manifests.get(place)) is not None:
                waiting |= set(origins(manifest)) - reached
        return frozenset(reached)


def survey(root: str) -> Survey:
    """Reads what lies under a root: one listing, the manifests and the runs' documents.

    Raises:
        UserError: storage failed.
    """
    objects = tuple(storage.list_objects(root))
    named = {place_of(root, e.uri) for e in objects if e.uri.endswith("/" + artifacts.MANIFEST)}
    places = sorted(place for place in named if place.split("/")[0] in FOLDERS)
    by_run: dict[str, list[Entry]] = {}
    for entry in objects:
        folder, _, name = place_of(root, entry.uri).partition("/")
        if folder == "runs" and name:
            by_run.setdefault(name, []).append(entry)
    with ThreadPoolExecutor(_READERS) as pool:
        found = pool.map(lambda place: artifacts.find(storage.join(root, place)), places)
        manifests = {p: m for p, m in zip(places, found, strict=True) if m is not None}
        runs = dict(zip(by_run, pool.map(lambda n: _run(root, n, by_run[n]), by_run), strict=True))
    unfinished = tuple(storage.unfinished(root))
    return Survey(root, objects, manifests, runs, unfinished, _versions(root, objects))


def _versions(root: str, objects: Iterable[Entry]) -> dict[str, frozenset[str]]:
    """What the versions of models name: read as plain JSON, for what they are is known above."""
    above = root.rstrip("/") + "/"
    placed = {e.uri: _VERSION.fullmatch(e.uri.removeprefix(above)) for e in objects}
    named = {uri: place.groups() for uri, place in placed.items() if place}
    with ThreadPoolExecutor(_READERS) as pool:
        documents = dict(zip(named, pool.map(storage.read_document, named), strict=True))
    # In the order of their names: the last promotion counts. Removals are entries there too.
    production = {
        name: documents[uri].get("version")
        for uri, (name, kind, _) in named.items()
        if kind == "production" and "version" in documents[uri]
    }
    return {
        f"model {name} version {int(number)}"
        + (" (in production)" if production.get(name) == int(number) else ""): frozenset(
            _places(documents[uri])
        )
        for uri, (name, kind, number) in named.items()
        if kind == "versions"
    }


def _run(root: str, name: str, entries: list[Entry]) -> Run:
    inside = {entry.uri.removeprefix(storage.join(root, "runs", name) + "/") for entry in entries}
    noted = {path.removeprefix("uses/") for path in inside if path.startswith("uses/")}
    scenario: Mapping[str, Any] = {}
    if "scenario.json" in inside:
        scenario = storage.read_document(storage.join(root, "runs", name, "scenario.json"))
    if RESULT in inside:
        result = storage.read_document(storage.join(root, "runs", name, RESULT))
        noted |= set(_places(result.get("dataset"), *result.get("steps", ())))
    return Run(
        name=name,
        scenario=scenario,
        noted=frozenset(noted),
        finished=RESULT in inside,
        started=min(entry.modified for entry in entries),
        written=max(entry.modified for entry in entries),
    )


def _places(*documents: object) -> Iterable[str]:
    """``<folder>/<key>`` of every ``uri`` in some JSON."""
    for document in documents:
        if isinstance(document, Mapping):
            if isinstance(uri := document.get("uri"), str) and uri:
                yield tail(uri)
            yield from _places(*document.values())


def origins(manifest: Manifest) -> Iterable[str]:
    """``<folder>/<key>`` of what an artifact was made of."""
    names = ("dataset", "teacher", "memory", "checkpoint", "previous")
    return _places(*(manifest.metadata.get(name) for name in names))


def tail(uri: str) -> str:
    """``<folder>/<key>`` of an artifact, whatever the scheme and bucket it was named by."""
    return "/".join(uri.rstrip("/").split("/")[-2:])


def place_of(root: str, uri: str) -> str:
    """``<folder>/<key>`` of an object under the root."""
    return "/".join(uri.removeprefix(root.rstrip("/") + "/").split("/")[:2])


# ---- listing


@dataclass(frozen=True)
class Summary:
    """A line of ``dkd runs``.

    Attributes:
        name: of the run.
        state: ``finished``, ``step 2 of 6`` (so many are trained), ``started``.
        started: when.
        size: bytes of all that it uses, its own documents included.
        shared: bytes of these that other runs use too.
        others: names of those runs.
    """

    name: str
    state: str
    started: datetime
    size: int
    shared: int
    others: tuple[str, ...]


def summaries(found: Survey) -> list[Summary]:
    """The runs, oldest first."""
    lines = []
    there = {name: with_saves(uses) & found.by_place.keys() for name, uses in found.uses.items()}
    for name, run in found.runs.items():
        others = {other: places & there[name] for other, places in there.items() if other != name}
        shared = frozenset().union(*others.values()) if others else frozenset()
        lines.append(
            Summary(
                name=name,
                state=state(found, run),
                started=run.started,
                size=found.size(there[name] | {f"runs/{name}"}),
                shared=found.size(shared),
                others=tuple(sorted(other for other, places in others.items() if places)),
            )
        )
    return sorted(lines, key=lambda line: (line.started, line.name))


def state(found: Survey, run: Run) -> str:
    """How far a run came."""
    if run.finished:
        return "finished"
    used = found.uses[run.name]
    trained = sum(place.startswith("checkpoints/") for place in used & found.manifests.keys())
    if not trained:
        return "started"
    steps = len(run.scenario.get("task", ()))
    with suppress(UserError):  # a method of a package that is not installed here
        if methods.get(run.scenario.get("method", "")).joint:
            steps = 1
    return f"step {trained} of {steps}" if steps else f"{trained} steps"


def with_saves(places: Iterable[str]) -> frozenset[str]:
    """These and the saves and leases of the checkpoints among them: all have the same key."""
    names = frozenset(places)
    keys = {name.removeprefix("checkpoints/") for name in names if name.startswith("checkpoints/")}
    return names | {f"{folder}/{key}" for folder in ("saves", "leases") for key in keys}


# ---- removing


@dataclass(frozen=True)
class Removal:
    """What goes with a run, or with a version of a model.

    Attributes:
        places: whole folders, ``<folder>/<key>``: the run's own results, its documents last.
        kept: what the run uses that stays, with the names of the runs and versions of models
            that use it too.
        leftovers: folders of killed writers, of whatever run.
        unfinished: uploads and temporary files of killed writers.
    """

    places: tuple[str, ...]
    kept: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    leftovers: tuple[str, ...] = ()
    unfinished: tuple[Unfinished, ...] = ()


def removal(
    found: Survey, name: str, now: datetime, *, stopped: bool = False, old: timedelta = LEFTOVER_AGE
) -> Removal:
    """What can go when a run goes.

    Args:
        found: what lies under the root.
        name: the run.
        now: the present (aware).
        stopped: the run does not run, however lately it wrote something.
        old: age of leftovers that may go.

    Raises:
        UserError: there is no such run; it, or another one that has not noted yet what it uses,
            may be running.
    """
    if name not in found.runs:
        known = ", ".join(sorted(found.runs)) or "none"
        raise UserError(f"{found.root}: no run {name!r}; there are: {known}")
    _require_idle(found, name, now, stopped)
    mine = with_saves(found.uses[name])
    users = _users(found, without=name)
    going, kept = _split(found, mine, users)
    leftovers = sorted(
        place
        for place in found.by_place.keys() - mine - users.keys()
        if is_leftover(found, place) and now - found.written(place) >= old
    )
    gone = (mine - users.keys()) | {f"runs/{name}"}
    unfinished = tuple(
        each
        for each in found.unfinished
        if place_of(found.root, each.uri) in gone or now - each.started >= old
    )
    return Removal((*going, f"runs/{name}"), kept, tuple(leftovers), unfinished)


def removal_of_version(found: Survey, version: str, now: datetime) -> Removal:
    """What can go when a version of a model goes: what no run and no other version uses.

    Args:
        found: what lies under the root.
        version: as :attr:`Survey.versions` calls it.
        now: the present (aware).

    Raises:
        UserError: a run that has not noted yet what it uses may need some of it.
    """
    _require_noted(found, "", now)
    return Removal(*_split(found, found.held[version], _users(found, without=version)))


def _users(found: Survey, without: str) -> dict[str, list[str]]:
    """The runs and versions that use a place, but for one of them."""
    users: dict[str, list[str]] = {}
    runs = {name: with_saves(found.uses[name]) for name in sorted(found.runs)}
    for user, places in (*runs.items(), *found.held.items()):
        if user != without:
            for place in places:
                users.setdefault(place, []).append(user)
    return users


def _split(
    found: Survey, mine: frozenset[str], users: Mapping[str, Sequence[str]]
) -> tuple[tuple[str, ...], dict[str, tuple[str, ...]]]:
    """What is there of some places: what nobody else uses, and the rest with its users."""
    here = sorted(mine & found.by_place.keys())
    going = tuple(place for place in here if place not in users)
    return going, {place: tuple(users[place]) for place in here if place in users}


def is_leftover(found: Survey, place: str) -> bool:
    """Whether a folder holds saves, a lease, or parts of an artifact that was never published."""
    folder = place.split("/")[0]
    return folder in ("saves", "leases") or (folder in FOLDERS and place not in found.manifests)


def _require_idle(found: Survey, name: str, now: datetime, stopped: bool) -> None:
    run = found.runs[name]
    places = [p for p in with_saves(found.uses[name]) if is_leftover(found, p)]
    seen = [found.written(p) for p in places if p in found.by_place]
    age = now - max([run.written, *seen])
    if not (run.finished or stopped) and age < ACTIVE:
        raise UserError(
            f"run {name!r}: wrote something {age.total_seconds() / 60:.0f} minutes ago and is not "
            "finished; stop it, or use --stopped if it has stopped"
        )
    _require_noted(found, name, now)


def _require_noted(found: Survey, name: str, now: datetime) -> None:
    """Checks that every run but this one has noted what it uses."""
    for other in found.runs.values():
        fresh = not other.finished and not other.noted and now - other.written < ACTIVE
        if other.name != name and fresh:
            raise UserError(
                f"run {other.name!r}: has just begun and has not noted what it uses; try again "
                "in a few minutes"
            )


def remove(root: str, chosen: Removal) -> None:
    """Removes it; what was interrupted goes on when it is started again.

    Manifests go first, so that nobody finds half an artifact, and the run's own documents last.

    Raises:
        UserError: storage failed.
    """
    storage.abandon(chosen.unfinished)
    for place in (*chosen.leftovers, *chosen.places):
        artifacts.remove(storage.join(root, place))
