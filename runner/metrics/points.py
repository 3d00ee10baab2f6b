"""Points <-> bytes of the store's stream, and points -> one series per metric."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from runner.errors import StoreError

Goal = Literal["maximize", "minimize"]


@dataclass(frozen=True, kw_only=True)
class Point:
    """One measured value of a metric; `time_s` is in unix seconds. The value may be NaN or infinite."""

    name: str
    step: int
    value: float
    time_s: float


@dataclass(frozen=True, kw_only=True)
class Series:
    """All values of one metric, in the order of their steps, one per step; never empty."""

    name: str
    steps: tuple[int, ...]
    values: tuple[float, ...]

    @property
    def last(self) -> float:
        """The value at the highest step; NaN where NaN was logged there."""
        return self.values[-1]

    def best(self, goal: Goal) -> float | None:
        """The highest or lowest value, NaN left out; None where every value is NaN."""
        numbers = [value for value in self.values if not math.isnan(value)]
        if not numbers:
            return None
        return max(numbers) if goal == "maximize" else min(numbers)


def series(points: Iterable[Point]) -> Mapping[str, Series]:
    """One series per name, in order of first appearance; of several points at one step the last counts."""
    values: dict[str, dict[int, float]] = {}
    for point in points:
        values.setdefault(point.name, {})[point.step] = point.value
    return {name: _series(name, by_step) for name, by_step in values.items()}


def _series(name: str, by_step: Mapping[int, float]) -> Series:
    steps = tuple(sorted(by_step))
    return Series(name=name, steps=steps, values=tuple(by_step[step] for step in steps))


def encode(points: Iterable[Point]) -> bytes:
    """One line of strict JSON per point; NaN and infinities are strings, since JSON has no such numbers."""
    return b"".join(_line(point) for point in points)


def _line(point: Point) -> bytes:
    value = point.value if math.isfinite(point.value) else _spelled(point.value)
    fields = {"name": point.name, "step": point.step, "value": value, "time_s": point.time_s}
    return json.dumps(fields, ensure_ascii=False, allow_nan=False).encode(errors="replace") + b"\n"


def _spelled(value: float) -> str:
    if math.isnan(value):
        return "NaN"
    return "Infinity" if value > 0 else "-Infinity"


def decode(content: bytes) -> tuple[Point, ...]:
    """The points of `encode`, in order; a last line without its end (the writer was killed) is left out.

    Raises StoreError for any other line that is not a point.
    """
    lines = content.split(b"\n")[:-1]
    return tuple(_point(line, number) for number, line in enumerate(lines, start=1) if line.strip())


def _point(line: bytes, number: int) -> Point:
    from runner.metrics.saved import SavedPoint

    try:
        saved = SavedPoint.model_validate_json(line)
    except ValueError as error:
        message = f"line {number} of the saved metrics is not a point: {line[:80]!r}"
        raise StoreError(
            message, tip="the run's metrics were changed by hand or by another version"
        ) from error
    return Point(name=saved.name, step=saved.step, value=saved.value, time_s=saved.time_s)


def steps_again(points: Iterable[Point], *, since_s: float) -> int | None:
    """How many steps were done before `since_s` and again after it; None where nothing was measured on one side.

    `points` are in the order in which they were read: the last time that steps went back is what counts, since a host
    that took over reads once more what another had read.
    """
    reached: int | None = None
    before: int | None = None
    again: int | None = None
    for point in points:
        if point.time_s < since_s:
            reached = max(point.step, reached if reached is not None else point.step)
        elif reached is not None:
            went_back = point.step <= reached if before is None else point.step < before
            if went_back:
                again = max(0, reached - point.step + 1)
            again, before = again or 0, point.step
    return again
