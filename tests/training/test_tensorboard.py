"""TensorBoard's file: its bytes were read by tensorboard 2.21.0's EventAccumulator, which gave the
values below back; a reader of its own here follows the format's description.
"""

import hashlib
import struct
from collections.abc import Iterator

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from dkd.training.tensorboard import Event, encode

EVENTS = [
    Event(1700000000.5, 10, {"loss/total": 1.5, "rate/backbone": 0.001, "time/minutes left": 3.25}),
    Event(1700000010.0, 300, {"loss/total": 0.75}),
]


def test_the_bytes_are_those_that_tensorboard_read() -> None:
    written = encode(EVENTS)
    assert len(written) == 185
    assert hashlib.sha256(written).hexdigest() == (
        "7811481bd0e58e13e1c6321a8eb747e02902f57a50c42567b1c904bbfa164130"
    )


def test_messages_parse_as_tensorflows() -> None:
    event = message_class()
    version, first, second = (event.FromString(data) for data in records(encode(EVENTS)))
    assert version.file_version == "brain.Event:2"
    assert (first.wall_time, first.step) == (1700000000.5, 10)
    assert [value.tag for value in first.summary.value] == list(EVENTS[0].scalars)
    assert [(v.tag, v.simple_value) for v in second.summary.value] == [("loss/total", 0.75)]
    assert second.step == 300


def records(data: bytes) -> Iterator[bytes]:
    while data:
        (length,) = struct.unpack("<Q", data[:8])
        yield data[12 : 12 + length]
        data = data[16 + length :]


def message_class() -> type:
    """``Event``, with the numbers of tensorflow/core/util/event.proto and summary.proto."""
    kinds = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="event.proto", package="t", syntax="proto3")

    def message(name: str, *fields: tuple) -> None:
        made = file.message_type.add(name=name)
        for number, field, kind, type_name in fields:
            repeated = field == "value"
            made.field.add(
                name=field,
                number=number,
                type=kind,
                type_name=type_name,
                label=kinds.LABEL_REPEATED if repeated else kinds.LABEL_OPTIONAL,
            )

    message(
        "Value", (1, "tag", kinds.TYPE_STRING, None), (2, "simple_value", kinds.TYPE_FLOAT, None)
    )
    message("Summary", (1, "value", kinds.TYPE_MESSAGE, ".t.Value"))
    message(
        "Event",
        (1, "wall_time", kinds.TYPE_DOUBLE, None),
        (2, "step", kinds.TYPE_INT64, None),
        (3, "file_version", kinds.TYPE_STRING, None),
        (5, "summary", kinds.TYPE_MESSAGE, ".t.Summary"),
    )
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("t.Event"))
