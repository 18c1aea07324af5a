"""Why a run trained a step anew: what of its key no result that was there had.

A step's key is a digest (:mod:`dkd.steps.step`); what it is made of lies in ``checkpoint.json``,
and in the run's own note until that is there.
"""

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from dkd import storage
from dkd.errors import UserError
from dkd.steps.retention import Survey
from dkd.steps.step import differences, read_json
from dkd.storage.artifacts import Manifest

_READERS = 16

Key = Mapping[str, Any]
"""What a checkpoint's place is a digest of: :attr:`dkd.steps.step.Step.checkpoint_identity`."""


@dataclass(frozen=True)
class Nearest:
    """The result of a step that has most of another one's key.

    Attributes:
        place: ``checkpoints/<key>``.
        run: which made it.
        differs: the fields that are others there, with both values.
    """

    place: str
    run: str
    differs: tuple[str, ...]


@dataclass(frozen=True)
class Explanation:
    """Where a step of a run comes from.

    Attributes:
        step: its number.
        place: ``checkpoints/<key>``.
        run: which trained it; empty while none has.
        created: when, ISO 8601 in UTC; empty likewise.
        nearest: for a step that the run did not find: of what was there, the nearest.
    """

    step: int
    place: str
    run: str
    created: str
    nearest: Nearest | None


def explain(found: Survey, run: str) -> list[Explanation]:
    """Where the steps of a run come from, in order.

    Args:
        found: what lies under the root.
        run: its name.

    Raises:
        UserError: there is no such run, or storage failed.
    """
    if run not in found.runs:
        known = ", ".join(sorted(found.runs)) or "none"
        raise UserError(f"{found.root}: no run {run!r}; there are: {known}")
    trained = {p: m for p, m in found.manifests.items() if m.kind == "checkpoint"}
    with ThreadPoolExecutor(_READERS) as pool:
        keys = dict(zip(trained, pool.map(_key, trained.values()), strict=True))
    keys = {place: key for place, key in keys.items() if "classes" in key}  # else imported
    own = {place: key for place, key in keys.items() if place in found.uses[run]}
    explanations = []
    for place, key in {**dict(_noted(found, run)), **own}.items():
        manifest = trained.get(place)
        made_by = str(manifest.metadata.get("run", "")) if manifest else ""
        nearest = None
        if made_by in ("", run):
            there = {
                p: k for p, k in keys.items() if p != place and _was_there(trained, p, manifest)
            }
            nearest = _nearest(key, there, trained)
        created = manifest.created if manifest else ""
        explanations.append(Explanation(_step(key), place, made_by, created, nearest))
    return sorted(explanations, key=lambda each: (each.step, each.place))


def _nearest(key: Key, there: Mapping[str, Key], trained: Mapping[str, Manifest]) -> Nearest | None:
    changes = {p: differences(k, key) for p, k in there.items() if _step(k) == _step(key)}
    if not changes:
        return None
    place = min(changes, key=lambda each: (len(changes[each]), each))
    return Nearest(place, str(trained[place].metadata.get("run", "")), tuple(changes[place]))


def _was_there(trained: Mapping[str, Manifest], place: str, manifest: Manifest | None) -> bool:
    return manifest is None or trained[place].created <= manifest.created


def _step(key: Key) -> int:
    return len(key["classes"]) - 1


def _key(manifest: Manifest) -> Key:
    identity: Key = read_json(manifest, "checkpoint.json").get("identity") or {}
    return identity


def _noted(found: Survey, run: str) -> Iterator[tuple[str, Key]]:
    folder = storage.join(found.root, "runs", run, "uses") + "/"
    for entry in found.objects:
        place = entry.uri.removeprefix(folder)
        if place != entry.uri and place.startswith("checkpoints/") and entry.size:
            yield place, storage.read_document(entry.uri)
