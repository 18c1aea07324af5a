"""Who trains a step: a lease under the artifact root, so that whoever asks, it is trained once.

    <root>/leases/<key>/<generation>/holder.json      by the launching process, which begins it by
                                                      conditional create: one of several wins
    <root>/leases/<key>/<generation>/progress.json    by rank 0 of its job, with the iteration

Both are rewritten every few seconds. Who finds a lease waits until it is given back or nothing of
it has changed for :data:`STALE` seconds of the waiting process's own clock (clocks are never
compared), and then begins the next generation. The holder's own run takes over as soon as its
launching process is dead: the job may run on, and is adopted.

Results do not depend on any of this. Two that train a step all the same, after a partition say,
give the same bits, keep their saves apart, and the first to publish wins.
"""

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import psutil

from dkd import storage
from dkd.errors import UserError
from dkd.storage.store import NotFound

HOLDER, PROGRESS = "holder.json", "progress.json"
BEAT = 10.0
"""Seconds between two writings of a lease."""
STALE = 45.0
"""Seconds without one after which its holder is taken for dead."""
LOOK = 2.0
"""Seconds between two looks of one who waits."""
AGAIN = 600.0
"""Seconds after which it is said again what is waited for."""


@contextmanager
def held(
    uri: str, run: str, is_done: Callable[[], bool], say: Callable[[str], None]
) -> Iterator[str]:
    """Holds a lease for as long as the block lasts, once nobody else does.

    Args:
        uri: its folder, ``<root>/leases/<key>``.
        run: name of the run that asks.
        is_done: whether what the lease is for is there already; then it is not waited for.
        say: prints a line.

    Yields:
        The folder of its generation, where the job notes its progress; empty if it is done.
    """
    place = _acquired(uri, run, is_done, say)
    if not place:
        yield ""
        return
    with beating(storage.join(place, HOLDER), lambda: {"run": run, **process()}):
        try:
            yield place
        finally:
            with suppress(UserError):  # leftovers do no harm
                _clear(uri, place)


@contextmanager
def beating(uri: str, document: Callable[[], Mapping[str, Any]]) -> Iterator[None]:
    """Rewrites an object every few seconds for as long as the block lasts, and deletes it then."""
    ended = threading.Event()

    def beat() -> None:
        while not ended.is_set():
            with suppress(UserError):  # the next one may come through
                storage.write_bytes(uri, json.dumps(document()).encode())
            ended.wait(BEAT)

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        with suppress(UserError):
            storage.delete([uri])


@dataclass(frozen=True)
class FoundLease:
    """A lease as it is found.

    Attributes:
        place: folder of the newest generation; empty if there is none.
        changes: when each of its objects was written, by the store's clock.
        holder: of the newest generation: its run and process; empty if there is none any more.
        progress: of the newest that tells one: rank 0's process, ``iteration`` and ``of``.
    """

    place: str
    changes: Mapping[str, datetime]
    holder: Mapping[str, Any]
    progress: Mapping[str, Any]

    @classmethod
    def at(cls, uri: str) -> "FoundLease":
        """Reads the lease in a folder."""
        changes = {entry.uri: entry.modified for entry in storage.list_objects(uri + "/")}
        places = sorted({each.rpartition("/")[0] for each in changes})
        told = sorted(each for each in changes if each.endswith("/" + PROGRESS))
        if not places:
            return cls("", {}, {}, {})
        holder = _read(storage.join(places[-1], HOLDER))
        return cls(places[-1], changes, holder, _read(told[-1]) if told else {})

    @property
    def holder_went(self) -> bool:
        """Whether it was given back while this was read."""
        return storage.join(self.place, HOLDER) in self.changes and not self.holder

    @property
    def next_place(self) -> str:
        """Folder of the generation after this one, below the lease's."""
        return f"{int(self.place.rpartition('/')[2]) + 1 if self.place else 1:06d}"

    def __str__(self) -> str:
        far = ""
        if self.progress.get("of"):
            far = ", iteration {iteration:,} of {of:,}".format_map(self.progress)
        return f"waiting for run {self.holder.get('run', '?')}, which trains this step{far}"


class _Watch:
    """Since when, by this process's clock, something has not changed."""

    def __init__(self) -> None:
        self._last: object = None
        self._since = time.monotonic()

    def unchanged(self, now: object) -> float:
        if now != self._last:
            self._last, self._since = now, time.monotonic()
        return time.monotonic() - self._since


def _acquired(uri: str, run: str, is_done: Callable[[], bool], say: Callable[[str], None]) -> str:
    anything, holder = _Watch(), _Watch()
    told = -AGAIN
    while not is_done():
        seen = FoundLease.at(uri)
        if seen.holder_went:
            continue
        is_quiet = anything.unchanged(seen.changes) > STALE
        is_silent = holder.unchanged(seen.changes.get(storage.join(seen.place, HOLDER))) > STALE
        is_held = bool(seen.holder) and not is_silent and not _has_ended(seen.holder)
        is_worked_on = bool(seen.progress) and not is_quiet and not _has_ended(seen.progress)
        if not is_held and (seen.holder.get("run") == run or not is_worked_on):
            if place := _begun(seen, uri, run):
                return place
            continue
        if time.monotonic() - told > AGAIN:
            say(str(seen))
            told = time.monotonic()
        time.sleep(LOOK)
    return ""


def _begun(seen: FoundLease, uri: str, run: str) -> str | None:
    """Begins the generation after the one that was seen; None if another was quicker.

    It may have been so with any generation, where one was given back meanwhile: what lies there is
    looked at once more.
    """
    place = storage.join(uri, seen.next_place)
    own = storage.join(place, HOLDER)
    document = json.dumps({"run": run, **process()}).encode()
    if not storage.write_bytes(own, document, if_absent=True):
        return None
    fresh = FoundLease.at(uri).changes.items() - seen.changes.items()
    if any(each != own and each.endswith("/" + HOLDER) for each, _ in fresh):
        storage.delete([own])
        return None
    return place


def _clear(uri: str, place: str) -> None:
    """Removes all but a generation's holder, which goes last: then others may begin anew."""
    for entry in storage.list_objects(uri + "/"):
        folder, _, name = entry.uri.rpartition("/")
        if folder < place or (folder == place and name != HOLDER):
            storage.delete([entry.uri])


def process() -> dict[str, Any]:
    """This process, so that others of this machine can tell whether it has ended."""
    own = psutil.Process()
    return {"machine": socket.gethostname(), "process": own.pid, "started": own.create_time()}


def _has_ended(document: Mapping[str, Any]) -> bool:
    """Whether the process that wrote it was of this machine and has ended."""
    if document.get("machine") != socket.gethostname():
        return False
    try:
        found = psutil.Process(document["process"])
        same = abs(found.create_time() - document["started"]) < 1
        return not same or found.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def _read(uri: str) -> Mapping[str, Any]:
    try:
        return storage.read_document(uri)
    except NotFound:
        return {}
