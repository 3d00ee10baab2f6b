"""metrics.jsonl -> points: one JSON object a line, nested objects flattened by `/`."""

from __future__ import annotations

import dataclasses
import json
import logging
from collections.abc import Iterator, Mapping

from runner.metrics.points import Point
from runner.metrics.position import LogFile, Position

logger = logging.getLogger(__name__)


def read(file: LogFile) -> tuple[tuple[Point, ...], Position]:
    """The points of the lines that are whole by now, and where to read on.

    A last line without its end is taken when it is a whole object already, else it waits. The step is the key
    `step`, or the line's number from 1; numbers and truth values are metrics, anything else is passed over. A
    broken line is skipped with a warning that names file and line.
    """
    points: list[Point] = []
    position = file.start
    with file.path.open("rb") as stream:
        stream.seek(position.offset_bytes)
        for line in stream:
            ended = line.endswith(b"\n")
            if not ended and not _whole(line):
                break
            points += _points(line, position.lines + 1, file)
            position = dataclasses.replace(
                position, offset_bytes=position.offset_bytes + len(line), lines=position.lines + ended
            )
    return tuple(points), position


def _whole(line: bytes) -> bool:
    # An object ends with its brace, so what parses cannot be the start of something longer.
    return isinstance(_parsed(line), dict)


def _parsed(line: bytes) -> object:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None


def _points(line: bytes, number: int, file: LogFile) -> Iterator[Point]:
    if not line.strip():
        return
    fields = _parsed(line)
    if not isinstance(fields, dict):
        logger.warning("%s:%d: not a JSON object, skipped", file.label, number)
        return
    step = _step(fields.pop("step", None))
    for name, value in _flat(fields, file.prefix):
        yield Point(name=name, step=number if step is None else step, value=value, time_s=file.modified_s)


def _step(value: object) -> int | None:
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _flat(fields: Mapping[str, object], prefix: str) -> Iterator[tuple[str, float]]:
    for key, value in fields.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}/")
        elif isinstance(value, int | float):
            yield prefix + key, _float(value)


def _float(value: float) -> float:
    try:
        return float(value)
    except OverflowError:
        return float("inf") if value > 0 else float("-inf")
