"""Artifacts: folders of parts that are whole or absent, whatever happens to their writer.

    <uri>/parts/<sha256>/<name>    the parts, first; named by content, so that writers never mix
    <uri>/manifest.json            last, by conditional create: the first of several writers wins

An artifact exists once its manifest does. A reader verifies size and sha256 of all it uses.

The manifest names its *format*, a number for each kind: what parts there are and what is in them.
A change after which older programs would misread a kind raises that kind's number here; whoever
reads a kind goes on reading all of its formats (:attr:`Manifest.format` tells them apart), and an
older program refuses the new one in one line.
"""

import hashlib
import json
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from tenacity import Retrying, retry_if_exception_type, stop_before_delay, wait_exponential

from dkd import storage
from dkd.errors import UserError, require_known_format
from dkd.storage.files import locked, partials
from dkd.storage.store import Damaged, NotFound, disk_error

MANIFEST = "manifest.json"
LARGEST_MANIFEST = 16 << 20  # bytes
LARGEST_IN_MEMORY = 1 << 30  # bytes of a part that is read into memory
KIND_FORMATS: Mapping[str, int] = {
    "checkpoint": 1,
    "dataset": 1,
    "evaluation": 1,
    "memory": 1,
    "save": 1,
    "weights": 1,
}
"""What is written now, by kind; 1 where it is not named. All began with 1 in version 0.1."""

_NAME = re.compile(
    r"[A-Za-z0-9_][A-Za-z0-9_.=+-]{0,127}(/[A-Za-z0-9_][A-Za-z0-9_.=+-]{0,127}){0,7}"
)
_SHA256 = re.compile(r"[0-9a-f]{64}")
T = TypeVar("T")


@dataclass(frozen=True)
class Part:
    """A file of an artifact: digest, size in bytes, place under the artifact's URI."""

    sha256: str
    size: int
    object: str


@dataclass(frozen=True)
class Manifest:
    """What a whole artifact consists of.

    Attributes:
        uri: the artifact's folder.
        kind: what it is (``checkpoint``, ``memory``, ...).
        parts: its files by name.
        metadata: what its maker noted, in JSON's types.
        created: when it was published, ISO 8601 in UTC.
        format: number of the kind's format, at most that in :data:`KIND_FORMATS`.
    """

    uri: str
    kind: str
    parts: dict[str, Part]
    metadata: dict[str, Any] = field(default_factory=dict)
    created: str = ""
    format: int = 1

    @property
    def digest(self) -> str:
        """sha256 over kind and parts, not over metadata: equal results have equal digests."""
        parts = {name: self.parts[name].sha256 for name in sorted(self.parts)}
        text = json.dumps({"kind": self.kind, "parts": parts}, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    @property
    def called(self) -> str:
        """Its kind for messages: ``a memory``, ``an evaluation``, ``weights``."""
        if self.kind.endswith("s"):
            return self.kind
        return f"{'an' if self.kind.startswith(tuple('aeio')) else 'a'} {self.kind}"

    @property
    def size(self) -> int:
        """Bytes of all parts together."""
        return sum(part.size for part in self.parts.values())

    def part(self, name: str) -> Part:
        """Return a part by name.

        Raises:
            NotFound: the artifact has no such part.
        """
        if name not in self.parts:
            raise NotFound(f"{self.uri}: has no part {name}, only {', '.join(sorted(self.parts))}")
        return self.parts[name]

    def part_uri(self, name: str) -> str:
        """Return the URI of a part's object."""
        return storage.join(self.uri, self.part(name).object)


def publish(
    uri: str, parts: Mapping[str, Path | bytes | Part], *, kind: str, metadata: Mapping[str, Any]
) -> Manifest:
    """Make an artifact visible, whole, at once; leave the one that is there already.

    Args:
        uri: its folder.
        parts: files or contents by name (letters, digits, ``_.=+-`` and ``/``); or what
            :func:`store_part` gave, which lies there already.
        kind: what it is.
        metadata: anything in JSON's types; no NaN.

    Returns:
        The manifest that lies at ``uri`` now: of several writers', the first one's.

    Raises:
        UserError: storage failed, or a name is not safe; nothing is visible then.
    """
    if (present := find(uri)) is not None:
        return present
    for name, content in parts.items():
        if not _NAME.fullmatch(name):
            raise UserError(f"part {name!r}: not a safe name; use letters, digits, _.=+- and /")
        if isinstance(content, Path) and not content.is_file():
            raise NotFound(f"{content}: no such file, to be part {name} of {uri}")
    now = datetime.now(UTC).isoformat(timespec="seconds")
    manifest = Manifest(uri, kind, {}, dict(metadata), now, KIND_FORMATS.get(kind, 1))
    _to_json(manifest)  # fails on what is not JSON, before anything is stored
    try:
        for name, content in parts.items():
            manifest.parts[name] = (
                content if isinstance(content, Part) else store_part(uri, name, content)
            )
        text = _to_json(manifest)
        first = storage.write_bytes(storage.join(uri, MANIFEST), text, if_absent=True)
    except UserError:
        # Another writer, who came first, has cleared our upload away.
        if (present := find(uri)) is None:
            raise
        return _give_way(manifest, present)
    if not first:
        return _give_way(manifest, load(uri))
    # What killed writers left, and what others are still sending in vain. It does no harm.
    with suppress(UserError):
        storage.abandon(storage.unfinished(uri))
    return manifest


def replace(
    old: Manifest, parts: Mapping[str, Path | bytes], *, metadata: Mapping[str, Any]
) -> Manifest:
    """Put another content in an artifact's place, at once, and delete the old one's parts.

    The exception to the rule that artifacts do not change: what must not be kept any longer. A
    reader that is at the old parts finds them missing and says so.

    Args:
        old: what lies there.
        parts: as for :func:`publish`.
        metadata: likewise.

    Raises:
        UserError: storage failed; the old one is whole then, or the new one is and parts of the
            old one are left.
    """
    now = datetime.now(UTC).isoformat(timespec="seconds")
    new = Manifest(old.uri, old.kind, {}, dict(metadata), now, KIND_FORMATS.get(old.kind, 1))
    for name, content in parts.items():
        new.parts[name] = store_part(old.uri, name, content)
    storage.write_bytes(storage.join(old.uri, MANIFEST), _to_json(new))
    _give_way(old, new)
    return new


def _give_way(ours: Manifest, winner: Manifest) -> Manifest:
    """Remove our parts: another writer's artifact is there."""
    used = {part.object for part in winner.parts.values()}
    stored = {part.object for part in ours.parts.values()}
    storage.delete(storage.join(winner.uri, name) for name in sorted(stored - used))
    return winner


def find(uri: str) -> Manifest | None:
    """Return the manifest of the artifact at ``uri``, None if there is no whole one.

    Raises:
        UserError: the manifest is damaged, or storage failed.
    """
    place = storage.join(uri, MANIFEST)
    try:
        text = storage.read_range(place, 0, LARGEST_MANIFEST + 1)
    except NotFound:
        return None
    return _from_json(uri, place, text)


def load(uri: str) -> Manifest:
    """Return the manifest of the artifact at ``uri``.

    Raises:
        NotFound: there is no whole artifact.
        UserError: the manifest is damaged, or storage failed.
    """

    def found() -> Manifest:
        manifest = find(uri)
        if manifest is None:
            raise NotFound(f"{uri}: no whole artifact there ({MANIFEST} is missing)")
        return manifest

    return _settled(uri, found)


def fetch(uri: str, folder: Path, names: Iterable[str] | None = None) -> Manifest:
    """Download parts to ``folder/<name>``, verified; those that are there already are kept.

    Args:
        uri: the artifact's folder.
        folder: where to; made if it is missing.
        names: which parts; all by default.

    Raises:
        NotFound: no whole artifact, or no such part.
        Damaged: a part is missing, truncated or altered.
    """
    manifest = load(uri)
    _fetch(manifest, folder, names)
    return manifest


def fetch_cached(uri: str, cache: Path) -> tuple[Manifest, Path]:
    """Download a whole artifact once per machine, however many processes ask for it.

    Args:
        uri: the artifact's folder.
        cache: folder on a disk of this machine that the processes share.

    Returns:
        The manifest, and the folder that holds all parts by name; leave it unchanged.

    Raises:
        NotFound, Damaged: as :func:`fetch`.
    """
    manifest = load(uri)
    folder = cache / manifest.digest
    with locked(cache / f".{manifest.digest}.lock"):
        if not all(_has_size(folder / name, part.size) for name, part in manifest.parts.items()):
            arriving = cache / f".{manifest.digest}.arriving"  # kept: the next try goes on there
            try:
                for leftover, _ in partials(arriving):
                    leftover.unlink()
                shutil.rmtree(folder, ignore_errors=True)
                _fetch(manifest, arriving, None)
                arriving.mkdir(parents=True, exist_ok=True)
                arriving.rename(folder)
            except OSError as error:
                raise disk_error(error, cache) from error
    return manifest, folder


def read_part(manifest: Manifest, name: str) -> bytes:
    """Return a part's content, verified.

    Raises:
        NotFound: the artifact has no such part.
        Damaged: it is missing, truncated, altered, or over 1 GiB.
    """
    part = manifest.part(name)
    if part.size > LARGEST_IN_MEMORY:
        raise UserError(
            f"{manifest.part_uri(name)}: {part.size} bytes are too many to read at once"
        )
    with _named(manifest, name):
        uri = manifest.part_uri(name)
        data = _settled(uri, partial(storage.read_range, uri, 0, part.size + 1))
        if hashlib.sha256(data).hexdigest() != part.sha256:
            raise Damaged(f"{uri}: sha256 differs")
    return data


def remove(uri: str) -> None:
    """Delete an artifact: its manifest first, so that no reader finds half of it."""
    storage.delete([storage.join(uri, MANIFEST)])
    storage.delete_folder(uri)


def store_part(uri: str, name: str, content: Path | bytes) -> Part:
    """Put a part where its content says, unless an earlier try has done so.

    For parts that are too many to be all on this machine at once: :func:`publish` makes them
    visible, and until then :func:`stored_parts` finds them again.

    Args:
        uri: the artifact's folder.
        name: of the part.
        content: its file, or its bytes.

    Raises:
        UserError: storage failed.
    """
    if isinstance(content, bytes):
        sha256, size = hashlib.sha256(content).hexdigest(), len(content)
    else:
        sha256, size = storage.file_sha256(content), content.stat().st_size
    part = Part(sha256, size, _object(name, sha256))
    store, target = storage.open_store(uri), storage.join(uri, part.object)
    if not store.holds(target, size, sha256):
        if isinstance(content, bytes):
            store.write(target, content, if_absent=False)
        else:
            store.upload(content, target, sha256)
    return part


def stored_parts(uri: str) -> list[tuple[str, Part]]:
    """Names and parts that lie in an artifact's folder, whole, whether published or not.

    Raises:
        UserError: storage failed.
    """
    start = storage.join(uri, "parts")
    found = []
    for entry in storage.list_objects(start + "/"):
        sha256, _, name = entry.uri.removeprefix(start).lstrip("/").partition("/")
        if _SHA256.fullmatch(sha256) and _NAME.fullmatch(name):
            found.append((name, Part(sha256, entry.size, _object(name, sha256))))
    return found


def _object(name: str, sha256: str) -> str:
    return f"parts/{sha256}/{name}"


def _fetch(manifest: Manifest, folder: Path, names: Iterable[str] | None) -> None:
    wanted = list(manifest.parts if names is None else names)
    for name in wanted:
        manifest.part(name)
    for name in wanted:
        _fetch_part(manifest, folder, name)


def _fetch_part(manifest: Manifest, folder: Path, name: str) -> None:
    part, target, uri = manifest.part(name), folder / name, manifest.part_uri(name)
    if _has_size(target, part.size) and storage.file_sha256(target) == part.sha256:
        return
    with _named(manifest, name):
        _settled(uri, partial(storage.download, uri, target, sha256=part.sha256))


def _has_size(path: Path, size: int) -> bool:
    return path.is_file() and path.stat().st_size == size


def _settled(uri: str, action: Callable[[], T]) -> T:
    """Run ``action`` on what should be there, again for a while if the store does not show it."""
    again = Retrying(
        retry=retry_if_exception_type(NotFound),
        wait=wait_exponential(0.1, max=1),
        stop=stop_before_delay(storage.open_store(uri).settle_seconds),
        reraise=True,
    )
    return again(action)


@contextmanager
def _named(manifest: Manifest, name: str) -> Iterator[None]:
    """Say of which artifact a part is missing or damaged, and how."""
    what = f"{manifest.uri}: part {name}"
    remedy = "remove the artifact and make it again"
    try:
        yield
    except NotFound as error:
        raise Damaged(f"{what} is missing; {remedy}") from error
    except Damaged as error:
        size, expected = storage.size(manifest.part_uri(name)), manifest.parts[name].size
        how = "altered" if size == expected else f"{size} bytes instead of {expected}"
        raise Damaged(f"{what} is damaged ({how}); {remedy}") from error


def _to_json(manifest: Manifest) -> bytes:
    document = {
        "format": manifest.format,
        "kind": manifest.kind,
        "created": manifest.created,
        "digest": manifest.digest,
        "parts": {name: asdict(part) for name, part in sorted(manifest.parts.items())},
        "metadata": manifest.metadata,
    }
    return json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False).encode() + b"\n"


def _from_json(uri: str, place: str, text: bytes) -> Manifest:
    """Check everything that a manifest says; it may come from anywhere.

    Raises:
        Damaged: it is no manifest of ours.
        NewerFormat: it is one of a later version.
    """
    try:
        if len(text) > LARGEST_MANIFEST:
            raise ValueError("too large")
        document = json.loads(text)
        number = document["format"]
        require_known_format(number, KIND_FORMATS.get(document["kind"], 1), place)
        if not isinstance(number, int) or number < 1:
            raise ValueError(f"format {number!r}")
        parts = {name: Part(**part) for name, part in document["parts"].items()}
        for name, part in parts.items():
            safe = _NAME.fullmatch(name) and _SHA256.fullmatch(part.sha256)
            whole = isinstance(part.size, int) and part.size >= 0
            if not (safe and whole and part.object == _object(name, part.sha256)):
                raise ValueError(f"part {name!r} is not described as it should be")
        kind, created, metadata = document["kind"], document["created"], document["metadata"]
        if not (isinstance(kind, str) and isinstance(created, str) and isinstance(metadata, dict)):
            raise ValueError("kind, created or metadata of a wrong type")
        manifest = Manifest(uri, kind, parts, metadata, created, number)
        if manifest.digest != document["digest"]:
            raise ValueError("its digest differs")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise Damaged(
            f"{place}: not a manifest that was written here ({type(error).__name__}: {error}); "
            "remove the artifact and make it again"
        ) from error
    return manifest
