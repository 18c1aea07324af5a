"""Loss, rate and time left as a file that TensorBoard reads, while a step is trained.

The format is TensorFlow's: records (``tensorflow/core/lib/io/record_writer.h``: length, masked
CRC-32C of the length, data, masked CRC-32C of the data) of ``Event`` messages
(``tensorflow/core/util/event.proto``). Written here because the package ``tensorboard`` would bring
a web server into the training image. Objects cannot be appended to, so the whole file is put
again; a step has about a hundred points.

    tensorboard --logdir s3://bucket/prefix/runs/RUN/tensorboard
"""

import struct
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from dkd import storage
from dkd.errors import UserError
from dkd.training.optimiser import rate
from dkd.training.state import TrainingState

FILE = "events.out.tfevents.dkd"
INTERVAL = 20.0
"""Seconds between uploads, at least."""


@dataclass(frozen=True)
class Event:
    """Scalars of one iteration.

    Attributes:
        time: when, in seconds since 1970.
        iteration: counted from 1.
        scalars: by name, e.g. ``loss/total``.
    """

    time: float
    iteration: int
    scalars: Mapping[str, float]


def encode(events: Sequence[Event]) -> bytes:
    """A whole event file."""
    start = events[0].time if events else 0.0
    version = struct.pack("<Bd", 0x09, start) + _text(3, "brain.Event:2")
    return b"".join(map(_record, [version, *map(_message, events)]))


def _message(event: Event) -> bytes:
    values = b"".join(
        _bytes(1, _text(1, name) + struct.pack("<Bf", 0x15, value))
        for name, value in event.scalars.items()
    )
    when = struct.pack("<Bd", 0x09, event.time)
    return when + b"\x10" + _varint(event.iteration) + _bytes(5, values)


def _text(field: int, value: str) -> bytes:
    return _bytes(field, value.encode())


def _bytes(field: int, value: bytes) -> bytes:
    """A length-delimited field of a protocol buffer."""
    return _varint(field << 3 | 2) + _varint(len(value)) + value


def _varint(value: int) -> bytes:
    digits = bytearray()
    while value > 0x7F:
        digits.append(value & 0x7F | 0x80)
        value >>= 7
    digits.append(value)
    return bytes(digits)


def _record(data: bytes) -> bytes:
    length = struct.pack("<Q", len(data))
    return length + _masked_crc(length) + data + _masked_crc(data)


def _masked_crc(data: bytes) -> bytes:
    crc = 0xFFFFFFFF
    for byte in data:
        crc = _CRC_TABLE[(crc ^ byte) & 0xFF] ^ crc >> 8
    crc ^= 0xFFFFFFFF
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)


def _crc_of_byte(byte: int) -> int:
    for _ in range(8):
        byte = byte >> 1 ^ (0x82F63B78 if byte & 1 else 0)  # Castagnoli's polynomial, reflected
    return byte


_CRC_TABLE = tuple(map(_crc_of_byte, range(256)))


class EventLog:
    """Keeps a step's event file up to date, beside the training.

    Args:
        uri: of the file.
        say: prints a line.
    """

    def __init__(self, uri: str, say: Callable[[str], None]) -> None:
        self._uri, self._say = uri, say
        self._events: list[Event] = []
        self._began: tuple[float, int] | None = None
        self._put_at = 0.0
        self._thread: threading.Thread | None = None

    def after_iteration(self, state: TrainingState) -> None:
        """Takes in what the trainer's curve has gained; called on rank 0 only."""
        now = time.time()
        if self._began is None:
            self._began = now, state.iteration
        points = state.curve.points
        if len(points) == len(self._events):
            return
        for point in points[len(self._events) :]:
            self._events.append(self._event(state, point, now))
        if now - self._put_at >= INTERVAL and (self._thread is None or not self._thread.is_alive()):
            self._put_at = now
            self._thread = threading.Thread(target=self._put, args=(tuple(self._events),))
            self._thread.start()

    def close(self) -> None:
        """Puts the file's last state, and waits for it."""
        if self._thread is not None:
            self._thread.join()
        if self._events:
            self._put(tuple(self._events))

    def _event(self, state: TrainingState, point: Mapping[str, float], now: float) -> Event:
        iteration, training = int(point["iteration"]), state.step.scenario.training
        scalars = {f"loss/{term}": value for term, value in point.items() if term != "iteration"}
        base = training.lr.at(state.step.number)
        scalars["rate/lr"] = rate(training.schedule, iteration - 1, state.total, base)
        assert self._began is not None
        began, first = self._began
        if iteration > first:  # not one that a save brought along
            left = (now - began) / (iteration - first) * (state.total - iteration)
            scalars["time/minutes left"] = left / 60
        return Event(now, iteration, scalars)

    def _put(self, events: Sequence[Event]) -> None:
        try:
            storage.write_bytes(self._uri, encode(events))
        except UserError as error:  # no reason to end a training
            self._say(f"the TensorBoard file could not be written, training continues: {error}")
