"""TensorBoard event files -> points, without TensorFlow.

Only the protocol buffers of the `tensorboard` package are used: its own file reader takes ten times as long
to import, keeps every file open, and reads a record's checksum byte by byte in Python.

Format: https://www.tensorflow.org/tutorials/load_data/tfrecord#tfrecords_format_details
"""

from __future__ import annotations

import dataclasses
import importlib
import logging
import math
import struct
from collections.abc import Iterator
from functools import cache
from typing import Any, BinaryIO, TypeAlias

from runner.metrics.points import Point
from runner.metrics.position import LogFile, Position

# The classes that protobuf generates come without types.
Message: TypeAlias = Any

logger = logging.getLogger(__name__)

_HEADER = struct.Struct("<QI")
_FOOTER_BYTES = 4
_CASTAGNOLI = 0x82F63B78

# The number types of a TensorProto: its field for one value, and how that value is packed in tensor_content.
_NUMBERS = {
    1: ("float_val", "<f"),
    2: ("double_val", "<d"),
    3: ("int_val", "<i"),
    4: ("int_val", "<B"),
    5: ("int_val", "<h"),
    6: ("int_val", "<b"),
    9: ("int64_val", "<q"),
    10: ("bool_val", "<?"),
    17: ("int_val", "<H"),
    22: ("uint32_val", "<I"),
    23: ("uint64_val", "<Q"),
}
_HALF, _BFLOAT16 = 19, 14


def read(file: LogFile) -> tuple[tuple[Point, ...], Position]:
    """The scalars of the records that are whole by now, and where to read on; a half-written record waits.

    After a header that does not match its checksum nothing in a file can be found again: that is a warning,
    and the position is unreadable from then on.
    """
    points: list[Point] = []
    position = file.start
    with file.path.open("rb") as stream:
        stream.seek(position.offset_bytes)
        try:
            for record in _records(stream):
                points += _points(record, file)
                position = dataclasses.replace(position, offset_bytes=stream.tell())
        except _BrokenHeaderError:
            logger.warning("%s: broken at byte %d, the rest is not read", file.label, position.offset_bytes)
            position = dataclasses.replace(position, unreadable=True)
    return tuple(points), position


class _BrokenHeaderError(ValueError):
    """The length of a record does not match its checksum."""


def _records(stream: BinaryIO) -> Iterator[bytes]:
    while len(header := stream.read(_HEADER.size)) == _HEADER.size:
        length_bytes, checksum = _HEADER.unpack(header)
        if _masked_crc(header[:8]) != checksum:
            raise _BrokenHeaderError
        rest = stream.read(length_bytes + _FOOTER_BYTES)
        if len(rest) < length_bytes + _FOOTER_BYTES:
            return
        yield rest


def _points(record: bytes, file: LogFile) -> Iterator[Point]:
    content, footer = record[:-_FOOTER_BYTES], record[-_FOOTER_BYTES:]
    points = tuple(_scalars(content, file))
    # Checked only where it matters: records of images and graphs are megabytes.
    if points and _masked_crc(content) != int.from_bytes(footer, "little"):
        logger.warning("%s: a record does not match its checksum, skipped", file.label)
        return
    yield from points


def _scalars(content: bytes, file: LogFile) -> Iterator[Point]:
    message = importlib.import_module("google.protobuf.message")
    try:
        event = importlib.import_module("tensorboard.compat.proto.event_pb2").Event.FromString(content)
    except message.DecodeError:
        logger.warning("%s: a record is not an event, skipped", file.label)
        return
    time_s = event.wall_time if math.isfinite(event.wall_time) else file.modified_s
    for value in event.summary.value:
        number = _scalar(value)
        if number is not None:
            yield Point(name=file.prefix + value.tag, step=event.step, value=number, time_s=time_s)


def _scalar(value: Message) -> float | None:
    if value.HasField("simple_value"):
        return float(value.simple_value)
    plugin = value.metadata.plugin_data.plugin_name
    if value.HasField("tensor") and plugin in ("scalars", "") and not value.tensor.tensor_shape.dim:
        return _number(value.tensor)
    return None


def _number(tensor: Message) -> float | None:
    if tensor.dtype in (_HALF, _BFLOAT16):
        return _half(tensor)
    if tensor.dtype not in _NUMBERS:
        return None
    field, packing = _NUMBERS[tensor.dtype]
    if tensor.tensor_content:
        return _unpacked(packing, tensor.tensor_content)
    values = getattr(tensor, field)
    # An all-default tensor is written without its value.
    return float(values[0]) if values else 0.0


def _half(tensor: Message) -> float | None:
    content = tensor.tensor_content or struct.pack("<H", tensor.half_val[0] if tensor.half_val else 0)
    if tensor.dtype == _HALF:
        return _unpacked("<e", content)
    # A bfloat16 is the upper half of a float32.
    return _unpacked("<f", b"\0\0" + content)


def _unpacked(packing: str, content: bytes) -> float | None:
    if struct.calcsize(packing) != len(content):
        return None
    (value,) = struct.unpack(packing, content)
    return float(value) if not math.isnan(value) else math.nan


@cache
def _crc_table() -> tuple[int, ...]:
    return tuple(_crc_of_byte(byte) for byte in range(256))


def _crc_of_byte(byte: int) -> int:
    for _ in range(8):
        byte = byte >> 1 ^ (_CASTAGNOLI if byte & 1 else 0)
    return byte


def _masked_crc(content: bytes) -> int:
    """CRC-32C, rotated and shifted as a TFRecord wants it."""
    table, crc = _crc_table(), 0xFFFFFFFF
    for byte in content:
        crc = table[(crc ^ byte) & 0xFF] ^ crc >> 8
    crc ^= 0xFFFFFFFF
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF
