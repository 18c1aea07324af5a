"""What a program tells while it works: lines for people, or with ``DKD_LOG=json`` JSON lines.

    {"time": "2026-11-28T10:04:05.678Z", "level": "info", "run": "voc-15-1", "step": 2, "rank": 0,
     "event": "epoch 3/30: mbce 0.1822, total 0.4410; rate 9.05e-04; 212 s, 1908 s left"}

Who tells something prints it, as libraries do; it is here that all of it passes, on the way to the
process's standard streams: what one call prints is one event. ``run``, ``step`` and ``rank`` are
null where an event is about none. Levels are ``info``, ``warning`` and ``error``.
"""

import atexit
import json
import logging
import os
import re
import sys
import threading
import traceback
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from io import TextIOBase
from types import TracebackType
from typing import Any, TextIO

from dkd.errors import UserError

VARIABLE = "DKD_LOG"
"""Environment variable: ``text`` (so it is where it is empty or absent) or ``json``."""

_about: dict[str, str | int | None] = {"run": None, "step": None, "rank": None}
_LEVELS = (
    (re.compile(r"dkd: |Error: "), "error"),
    (re.compile(r"warning: |note: |.*:\d+: \w*Warning: "), "warning"),
)


def wanted(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether events are told as JSON.

    Raises:
        UserError: the variable says something else.
    """
    said = environment.get(VARIABLE) or "text"
    if said not in ("text", "json"):
        raise UserError(f"{VARIABLE}={said}: write json or text")
    return said == "json"


def start(*, output: bool = True) -> None:
    """Has what this process tells from here on told as the environment asks.

    Args:
        output: its standard output tells of its work; else that is what was asked for (a table,
            a file's content) and stays as it is.

    Raises:
        UserError: the environment asks for something that is not known.
    """
    if not wanted() or isinstance(sys.stderr, _Events):
        return
    sys.stderr = _Events(sys.stderr)
    if output:
        sys.stdout = _Events(sys.stdout)
    sys.excepthook = uncaught
    logging.getLogger().addHandler(_Handler(logging.WARNING))


def about(*, run: str | None = None, step: int | None = None, rank: int | None = None) -> None:
    """Says what the events from here on are about; what is not given stays."""
    given = {"run": run, "step": step, "rank": rank}
    _about.update({name: value for name, value in given.items() if value is not None})


def event_text(line: str) -> str:
    """What a line tells to a person: of a JSON line its event, and any other as it is."""
    event = _parsed(line)
    return line if event is None else str(event["event"])


def is_event(line: str) -> bool:
    """Whether a line is JSON of an event."""
    return _parsed(line) is not None


def event_lines(lines: Iterable[str]) -> Iterator[str]:
    """A log's lines as people read them: an event may have several."""
    for line in lines:
        yield from event_text(line).splitlines() or [""]


def passed_on(line: str) -> str:
    """A line of another process as this one tells it."""
    return line if wanted() else event_text(line)


def uncaught(kind: type[BaseException], value: BaseException, trace: TracebackType | None) -> None:
    """Tells of an uncaught exception, as one event; a :data:`sys.excepthook`."""
    sys.stderr.write("".join(traceback.format_exception(kind, value, trace)))


@contextmanager
def told(run: str = "", step: float | None = None) -> Iterator[None]:
    """A component's work: told as the environment asks, and a :class:`UserError` as its line on
    standard error and exit status 2.

    Args:
        run: name of the run that it is part of.
        step: number of the step (KFP hands numbers over as floats).
    """
    try:
        start()
        about(run=run or None, step=None if step is None else int(step))
        yield
    except UserError as error:
        print(f"dkd: {error}", file=sys.stderr, flush=True)
        raise SystemExit(2) from None


class _Events(TextIOBase):
    """A standard stream on which everything is an event."""

    encoding = "utf-8"

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._begun = threading.local()  # what a thread has written of an event
        self._lock = threading.Lock()
        atexit.register(self._end)

    def isatty(self) -> bool:
        return False

    def fileno(self) -> int:
        return self._stream.fileno()

    def flush(self) -> None:
        self._stream.flush()

    def write(self, text: str) -> int:
        begun = getattr(self._begun, "text", "") + text
        self._begun.text = "" if begun.endswith("\n") else begun
        if begun.endswith("\n"):
            self._tell(begun)
        return len(text)

    def tell_event(self, level: str, event: str) -> None:
        """Writes one event."""
        now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        document = {"time": now, "level": level, **_about, "event": event}
        self._put(json.dumps(document, ensure_ascii=False))

    def _tell(self, text: str) -> None:
        lines = text.splitlines()
        if any(_parsed(line) for line in lines):  # another process's events, passed on
            for line in lines:
                if _parsed(line):
                    self._put(line)
                else:
                    self._tell_text(line)
        else:
            self._tell_text(text)

    def _tell_text(self, text: str) -> None:
        if event := text.strip():
            self.tell_event(_level(event), event)

    def _put(self, line: str) -> None:
        with self._lock:
            self._stream.write(line + "\n")
            self._stream.flush()

    def _end(self) -> None:
        if begun := getattr(self._begun, "text", ""):
            self._tell(begun)


class _Handler(logging.Handler):
    """What libraries log, with their level."""

    def emit(self, record: logging.LogRecord) -> None:
        level = "error" if record.levelno >= logging.ERROR else "warning"
        if isinstance(sys.stderr, _Events):
            sys.stderr.tell_event(level, self.format(record))


def _level(event: str) -> str:
    if event.startswith("Traceback (most recent call last)"):
        return "error"
    return next((level for words, level in _LEVELS if words.match(event)), "info")


def _parsed(line: str) -> dict[str, Any] | None:
    """An event of this program's; None if the line is none."""
    if not line.startswith('{"time": "'):
        return None
    try:
        document = json.loads(line)
    except ValueError:
        return None
    return document if document.keys() >= {"level", "event", *_about} else None
