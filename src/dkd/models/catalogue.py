"""The models under an artifact root: adding a version, and moving what is in production."""

import getpass
import os
import platform
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeVar

from dkd import storage
from dkd.errors import UserError
from dkd.models.version import FirstClasses, ModelVersion, Promotion, RemovedVersion, entry
from dkd.report.model import ArtifactRef
from dkd.scenario.names import check_model_name
from dkd.storage import artifacts
from dkd.storage.store import NotFound

_FOLDER = "models"
_TRIES = 100
_READERS = 16

Happened = Promotion | RemovedVersion
D = TypeVar("D")
H = TypeVar("H", Promotion, RemovedVersion)


def user() -> str:
    """Who does something: ``$DKD_USER``, else the account and the machine."""
    if given := os.environ.get("DKD_USER"):
        return given
    try:
        account = getpass.getuser()
    except (OSError, KeyError):  # a container's user without an entry
        account = str(os.getuid())
    return f"{account}@{platform.node()}"


def now() -> str:
    """The present, as documents write it."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def names(root: str) -> list[str]:
    """Names of the models that have a version: the first one's classes are written before it."""
    folder = storage.join(root, _FOLDER)
    found = storage.list_objects(folder)
    start = folder.rstrip("/") + "/"
    places = [each.uri.removeprefix(start).split("/") for each in found]
    return sorted({each[0] for each in places if each[1:2] == ["versions"]})


def versions(root: str, name: str) -> list[ModelVersion]:
    """A model's versions, the first one first.

    Raises:
        UserError: there is no such model.
    """
    found = _versions(root, name)
    if not found:
        known = ", ".join(names(root)) or "none"
        raise UserError(f"{root}: no model {name!r}; there are: {known}")
    return found


def version(root: str, name: str, number: int) -> ModelVersion:
    """A version of a model.

    Raises:
        UserError: there is none, or it was removed.
    """
    found = _read(_place(root, name, "versions", number), ModelVersion.from_json)
    _require_there(events(root, name), name, number)
    if found is None:
        numbers = ", ".join(str(each.version) for each in versions(root, name))
        raise UserError(f"model {name}: no version {number}; there are: {numbers}")
    return found


def events(root: str, name: str) -> list[Happened]:
    """What happened to a model's versions: promotions and removals, the first one first."""
    return _documents(root, name, "production", entry)


def history(root: str, name: str) -> list[Promotion]:
    """What was in production, the first promotion first."""
    return _promotions(events(root, name))


def in_production(root: str, name: str) -> ModelVersion:
    """The version that is in production.

    Raises:
        UserError: none is, or there is no such model.
    """
    promotions = history(root, name)
    if not promotions:
        last = versions(root, name)[-1].version
        raise UserError(
            f"model {name}: no version is in production; dkd models promote {name} {last}"
        )
    return version(root, name, promotions[-1].version)


def require_task(root: str, name: str, classes: Sequence[str]) -> None:
    """Checks that a model of this name may know these classes.

    Args:
        root: artifact root.
        name: the model's.
        classes: in channel order.

    Raises:
        UserError: it is no name, or the model exists with another task: its first version's
            classes are not the first ones of these.
    """
    try:
        first = storage.read_bytes(_classes(root, name))
    except NotFound:
        return
    known = FirstClasses.from_json(first, _classes(root, name)).classes
    if tuple(classes[: len(known)]) != known:
        raise UserError(
            f"model {name}: exists with another task: its classes begin with "
            f"{_brief(known)}, these with {_brief(classes)}; give the new model another name"
        )


def add(root: str, made: ModelVersion) -> ModelVersion:
    """Adds a version to its model, under the next free number.

    Returns:
        The version; one that is there already if it is the same result of the same run.

    Raises:
        UserError: the model exists with another task.
    """
    name = made.model
    classes = FirstClasses(classes=made.classes)
    storage.write_bytes(_classes(root, name), classes.to_json(), if_absent=True)
    require_task(root, name, made.classes)
    for _ in range(_TRIES):
        there = _versions(root, name)
        if same := next((each for each in there if each.is_same(made)), None):
            return same
        taken = {each.version for each in there} | _removed(events(root, name)).keys()
        number = 1 + max(taken, default=0)
        numbered = made.model_copy(update={"version": number})
        uri = _place(root, name, "versions", number)
        if storage.write_bytes(uri, numbered.to_json(), if_absent=True):
            return numbered
    raise _busy(name)


def promote(root: str, name: str, number: int, *, by: str, despite_gate: str = "") -> Promotion:
    """Puts a version into production.

    Args:
        root: artifact root.
        name: the model's.
        number: the version's.
        by: who does it.
        despite_gate: why, where its gate was not passed; kept with the promotion.

    Raises:
        UserError: its gate failed or is open and no reason is given; an artifact of it is gone or
            changed; it is in production already; somebody else moved what is in production
            meanwhile.
    """

    def decide(past: Sequence[Happened]) -> Promotion:
        chosen, promotions = version(root, name, number), _promotions(past)
        if promotions and promotions[-1].version == number:
            raise UserError(f"model {name}: version {number} is in production already")
        if chosen.state in ("failed", "open") and not despite_gate.strip():
            raise UserError(
                f"model {name} version {number}: {chosen.verdict}; to put it into production all "
                "the same, say why: --despite-gate REASON"
            )
        return _promotion(chosen, past, by, despite_gate.strip())

    return _append(root, name, decide)


def roll_back(root: str, name: str, *, by: str) -> Promotion:
    """Puts the version into production that was there before the present one was promoted.

    Raises:
        UserError: there was none before; otherwise as for :func:`promote`.
    """

    def decide(past: Sequence[Happened]) -> Promotion:
        there = {each.version for each in versions(root, name)}
        before = before_present(_promotions(past), there)
        if before is None:
            present = in_production(root, name).version
            raise UserError(f"model {name}: nothing was in production before version {present}")
        return _promotion(version(root, name, before), past, by, back=True)

    return _append(root, name, decide)


def before_present(promotions: Sequence[Promotion], there: Collection[int]) -> int | None:
    """Number of the version that was in production before the present one was promoted.

    Steps back are no promotions: after one, it is what was before the version stepped back to.

    Args:
        promotions: all of them.
        there: numbers of the versions that were not removed; the others are passed over.
    """
    stack: list[int] = []
    for each in promotions:
        if each.back:
            stack.pop()
            while stack[-1] != each.version:
                stack.pop()
        else:
            stack.append(each.version)
    earlier = (number for number in reversed(stack[:-1]) if number in there and number != stack[-1])
    return next(earlier, None)


def require_removable(root: str, name: str, number: int) -> None:
    """Checks that a version may be removed, or that its removal was begun and not finished.

    Raises:
        UserError: there is none, or it is in production, or what is in production was made from it
            or would give way to it if it were rolled back.
    """
    past = events(root, name)
    if not _is_half_removed(root, name, number, past):
        _require_removable(root, name, number, past)


def remove(
    root: str, name: str, number: int, *, by: str, clear: Callable[[], None] = lambda: None
) -> RemovedVersion:
    """Removes a version from its model; its artifacts are left (:mod:`dkd.steps.retention`).

    A removal that was killed is finished by another one.

    Args:
        root: artifact root.
        name: the model's.
        number: the version's.
        by: who does it.
        clear: removes what the version alone needs. It is called when nobody can choose the version
            any more, and before its document goes.

    Raises:
        UserError: as for :func:`require_removable`.
    """

    def decide(past: Sequence[Happened]) -> RemovedVersion:
        _require_removable(root, name, number, past)
        return RemovedVersion(number=_next(past), removed=number, created=now(), by=by)

    past = events(root, name)
    half = _is_half_removed(root, name, number, past)
    done = _removed(past)[number] if half else _append(root, name, decide)
    clear()
    storage.delete([_place(root, name, "versions", number)])
    return done


def _append(root: str, name: str, decide: Callable[[Sequence[Happened]], H]) -> H:
    """Adds to what happened to a model's versions, knowing all that happened before.

    Args:
        root: artifact root.
        name: the model's.
        decide: what is added; of what happened so far.

    Raises:
        UserError: of two who promote at once, this one came second.
    """
    for _ in range(_TRIES):
        made = decide(events(root, name))
        uri = _place(root, name, "production", made.number)
        if storage.write_bytes(uri, made.to_json(), if_absent=True):
            return made
        theirs = entry(storage.read_bytes(uri), uri)
        if isinstance(made, Promotion) and isinstance(theirs, Promotion):
            raise UserError(
                f"model {name}: {theirs.by} has just put version {theirs.version} into "
                f"production; look (dkd models show {name}), then try again"
            )
    raise _busy(name)


def _promotion(
    chosen: ModelVersion,
    past: Sequence[Happened],
    by: str,
    despite_gate: str = "",
    *,
    back: bool = False,
) -> Promotion:
    require_whole(chosen)
    promotions = _promotions(past)
    return Promotion(
        number=_next(past),
        version=chosen.version,
        was=promotions[-1].version if promotions else None,
        created=now(),
        by=by,
        back=back,
        gate=chosen.state,
        despite_gate=despite_gate,
    )


def _require_removable(root: str, name: str, number: int, past: Sequence[Happened]) -> None:
    version(root, name, number)
    promotions = _promotions(past)
    if not promotions:
        return
    known = {each.version: each for each in versions(root, name)}
    present = promotions[-1].version
    if number == present:
        raise UserError(
            f"model {name}: version {number} is in production; promote another one before you "
            "remove it"
        )
    parent = known[present].extends if present in known else None
    while parent in known:
        if parent == number:
            raise UserError(
                f"model {name}: version {number} stays: version {present}, in production, was made "
                "from it"
            )
        parent = known[parent].extends
    if number == before_present(promotions, known.keys()):
        raise UserError(
            f"model {name}: version {number} stays: a rollback of version {present} would go back "
            "to it"
        )


def _require_there(past: Sequence[Happened], name: str, number: int) -> None:
    """Checks that nobody removed a version.

    Raises:
        UserError: somebody did.
    """
    if gone := _removed(past).get(number):
        raise UserError(f"model {name}: version {number} was removed, {gone.created} by {gone.by}")


def _is_half_removed(root: str, name: str, number: int, past: Sequence[Happened]) -> bool:
    return number in _removed(past) and storage.exists(_place(root, name, "versions", number))


def _promotions(past: Sequence[Happened]) -> list[Promotion]:
    return [each for each in past if isinstance(each, Promotion)]


def _removed(past: Sequence[Happened]) -> dict[int, RemovedVersion]:
    """Removals by the version's number."""
    return {each.removed: each for each in past if isinstance(each, RemovedVersion)}


def _next(past: Sequence[Happened]) -> int:
    return past[-1].number + 1 if past else 1


def _busy(name: str) -> UserError:
    return UserError(f"model {name}: other commands keep changing it; try again")


def require_whole(chosen: ModelVersion) -> None:
    """Checks that a version's checkpoint is what it was.

    Raises:
        UserError: it is gone, or another one is in its place.
    """
    found = artifacts.find(chosen.checkpoint.uri)
    if found is None or found.digest != chosen.checkpoint.digest:
        what = "is gone" if found is None else "is another one now"
        raise UserError(
            f"model {chosen.model} version {chosen.version}: its checkpoint {what}: "
            f"{chosen.checkpoint.uri}"
        )


@dataclass(frozen=True)
class Start:
    """What a model's next version is made from.

    Attributes:
        teacher: URI of the checkpoint of the version in production, which holds the method's
            statistics too.
        memory: URI of its memory; empty if there is none.
        settings: values by dotted field that the version hands on: its gate and licence.
    """

    teacher: str
    memory: str
    settings: Mapping[str, Any]


def start_of_extension(root: str, name: str, say: Callable[[str], None]) -> Start:
    """What a model's next version is made from: what is in production.

    Args:
        root: artifact root.
        name: the model's.
        say: prints a line.

    Raises:
        UserError: there is no such model, none of its versions is in production, or its checkpoint
            is gone.
    """
    chosen = in_production(root, name)
    require_whole(chosen)
    memory, told = memory_of(chosen)
    say(f"model {name}: from version {chosen.version}, {chosen.checkpoint.uri}")
    if told:
        say(f"note: {told}")
    return Start(chosen.checkpoint.uri, memory, chosen.passed_on)


def memory_of(chosen: ModelVersion) -> tuple[str, str]:
    """URI of the exemplar memory that goes with a version, empty if there is none, and what a
    person must know of it: that images were taken out since, or that it is gone.
    """
    held: ArtifactRef | None = chosen.memory
    if held is None:
        return "", ""
    found = artifacts.find(held.uri)
    if found is None:
        return "", f"its exemplar memory {held.uri} is gone; going on without"
    changed = found.digest != held.digest
    return held.uri, f"images were taken out of its memory {held.uri} since" if changed else ""


def _versions(root: str, name: str) -> list[ModelVersion]:
    """A model's versions, but for those that were removed."""
    found = _documents(root, name, "versions", ModelVersion.from_json)
    gone = _removed(events(root, name))
    return [each for each in found if each.version not in gone]


def _documents(root: str, name: str, folder: str, parse: Callable[[bytes, str], D]) -> list[D]:
    """A model's documents of a kind, in their order."""
    place = storage.join(root, _FOLDER, check_model_name(name), folder)
    uris = sorted(each.uri for each in storage.list_objects(place))
    with ThreadPoolExecutor(_READERS) as pool:
        found = pool.map(lambda uri: _read(uri, parse), uris)
        return [each for each in found if each is not None]


def _read(uri: str, parse: Callable[[bytes, str], D]) -> D | None:
    """A document; None if there is none, or none any more."""
    try:
        return parse(storage.read_bytes(uri), uri)
    except NotFound:
        return None


def _place(root: str, name: str, kind: str, number: int) -> str:
    return storage.join(root, _FOLDER, check_model_name(name), kind, f"{number:06d}.json")


def _classes(root: str, name: str) -> str:
    return storage.join(root, _FOLDER, check_model_name(name), "classes.json")


def _brief(classes: Sequence[str], most: int = 6) -> str:
    more = f" and {len(classes) - most} more" if len(classes) > most else ""
    return ", ".join(classes[:most]) + more
