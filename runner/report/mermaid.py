"""Series -> a Mermaid chart, which GitHub draws: at most 60 finite points a line, base and run in one picture.

Syntax: https://mermaid.js.org/syntax/xyChart. It has neither exponents nor gaps nor, before 11.14, legends; so
numbers are scaled, both lines lie on one grid of steps, and the caption below the chart tells their colours.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from runner.metrics import Series
from runner.report import escape

POINTS = 60
# Beyond this a span overflows; what a diverged training logs there is no more a value than infinity is.
_LARGEST = 1e300
_LAST_STEP = 10**15
_RUN_COLOUR, _BASE_COLOUR = "#2f81f7", "#8c959f"
_NAME_LIMIT = 60
_HEAD = """\
---
config:
  xyChart: {{width: 760, height: 300}}
  themeVariables:
    xyChart: {{backgroundColor: transparent, plotColorPalette: "{palette}"}}
---
xychart-beta
    title "{title}"
    x-axis "step" {first} --> {last}
    y-axis {low} --> {high}
"""


@dataclass(frozen=True, kw_only=True)
class _Curve:
    """The finite points of a series, by step."""

    steps: tuple[int, ...]
    values: tuple[float, ...]


def chart(
    series: Series, base: Series | None = None, *, base_name: str = "base", points: int = POINTS
) -> str:
    """The chart as a block of Markdown with its caption; empty where the run has no two values to draw.

    The picture spans the run's own steps: a base that went on is cut there, one that ended earlier keeps its last
    value. What was left out is said.
    """
    own = _curve(series)
    if len(own.steps) < 2:
        return ""
    other = _curve(base) if base is not None else _Curve(steps=(), values=())
    grid = _grid(own, points)
    lines = [("base", _resampled(other, grid))] if other.steps else []
    lines.append(("this run", _resampled(own, grid)))
    power = _power(max(abs(value) for _, values in lines for value in values))
    scaled = [(name, tuple(value / 10.0**power for value in values)) for name, values in lines]
    low, high = _limits([value for _, values in scaled for value in values])
    head = _HEAD.format(
        palette=", ".join([_BASE_COLOUR] * (len(lines) - 1) + [_RUN_COLOUR]),
        title=_text(series.name) + (f" (×1e{power})" if power else ""),  # noqa: RUF001  # a multiplication
        first=own.steps[0],
        last=own.steps[-1],
        low=_number(low, high - low),
        high=_number(high, high - low),
    )
    drawn = "".join(f'    line "{name}" [{_joined(values, high - low)}]\n' for name, values in scaled)
    caption = _caption(series, own, other, base, base_name=base_name)
    return f"```mermaid\n{head}{drawn}```" + (f"\n\n<sub>{caption}</sub>" if caption else "")


def _curve(series: Series) -> _Curve:
    points = zip(series.steps, series.values, strict=True)
    kept = [(step, value) for step, value in points if abs(value) <= _LARGEST and abs(step) <= _LAST_STEP]
    # What is smaller could not be scaled.
    kept = [(step, value if abs(value) >= 1 / _LARGEST else 0.0) for step, value in kept]
    return _Curve(steps=tuple(step for step, _ in kept), values=tuple(value for _, value in kept))


def _grid(curve: _Curve, points: int) -> tuple[float, ...]:
    """Evenly spaced steps, since Mermaid spreads a line's values evenly over the axis."""
    first, last = curve.steps[0], curve.steps[-1]
    count = max(2, min(points, len(curve.steps) if _is_even(curve.steps) else points))
    return tuple(first + (last - first) * at / (count - 1) for at in range(count))


def _is_even(steps: Sequence[int]) -> bool:
    return (steps[-1] - steps[0]) == (steps[1] - steps[0]) * (len(steps) - 1)


def _resampled(curve: _Curve, grid: Sequence[float]) -> tuple[float, ...]:
    return tuple(_values_at(curve, grid))


def _values_at(curve: _Curve, grid: Sequence[float]) -> Iterator[float]:
    """The mean around each step of the grid where points are dense, between neighbours where they are not."""
    half = (grid[1] - grid[0]) / 2
    for at, step in enumerate(grid):
        exact = at in (0, len(grid) - 1)
        start = bisect_right(curve.steps, step - half)
        end = bisect_right(curve.steps, step + half)
        if exact or end - start < 2:
            yield _between(curve, step)
        else:
            yield math.fsum(value / (end - start) for value in curve.values[start:end])


def _between(curve: _Curve, step: float) -> float:
    right = bisect_left(curve.steps, step)
    if right == 0:
        return curve.values[0]
    if right == len(curve.steps):
        return curve.values[-1]
    before, after = curve.steps[right - 1], curve.steps[right]
    share = (step - before) / (after - before)
    return curve.values[right - 1] * (1 - share) + curve.values[right] * share


def _power(largest: float) -> int:
    """The power of ten to take out, so that what is left is written without an exponent."""
    if largest == 0 or 1e-3 <= largest < 1e6:
        return 0
    return math.floor(math.log10(largest))


def _limits(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    room = (high - low) * 0.05
    if room <= abs(high) * 1e-9:
        room = abs(high) / 10 or 1.0
    # A curve that never goes below zero, or above one, does not need an axis that does.
    return (0.0 if 0 <= low < room else low - room), (1.0 if 1 - room < high <= 1 else high + room)


def _joined(values: Sequence[float], span: float) -> str:
    return ", ".join(_number(value, span) for value in values)


def _number(value: float, span: float) -> str:
    """A decimal with as many digits as tell a thousandth of the span; never an exponent, never -0."""
    digits = min(max(3 - math.floor(math.log10(span)), 0), 12)
    text = f"{value:.{digits}f}"
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return "0" if text == "-0" else text


def _text(name: str) -> str:
    """A title inside quotes: what Mermaid could take for syntax, an entity or a directive is left out."""
    kept = "".join(each if each.isalnum() or each in " _-./:()+," else " " for each in escape.line(name))
    return " ".join(kept.split())[:_NAME_LIMIT] or "metric"


def _caption(series: Series, own: _Curve, other: _Curve, base: Series | None, *, base_name: str) -> str:
    parts = []
    if other.steps:
        parts.append(f"🔵 this run · ⚪ the last run of {escape.code(base_name)}")
        if other.steps[-1] < own.steps[-1]:
            parts[0] += f", which ended at step {other.steps[-1]}"
        elif other.steps[-1] > own.steps[-1]:
            parts[0] += f", which went on to step {other.steps[-1]}"
    left_out = len(series.steps) - len(own.steps)
    left_out += len(base.steps) - len(other.steps) if base is not None else 0
    if left_out:
        parts.append(f"{left_out} value{'s' * (left_out > 1)} left out, not finite or beyond 1e300")
    return " · ".join(parts)
