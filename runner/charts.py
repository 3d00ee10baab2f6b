"""Series -> text for the terminal: curves with axes, and sparklines of one line."""

from __future__ import annotations

import importlib
import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from runner.metrics import Series

_BLOCKS = "▁▂▃▄▅▆▇█"
_ASCII_BLOCKS = "_.-=+*%#"
_BOX = str.maketrans("┌┐└┘├┤┬┴│─", "++++++++|-")

_MARKERS = "*+ox#@%&"
_COLORS = (12, 10, 11, 13, 14, 9, 208, 99)
_BRAILLE = "braille"

_MIN_WIDTH, _MIN_HEIGHT = 24, 6
# Beyond this a span overflows; what a diverged training logs there is no more a value than infinity is.
_LARGEST = 1e300


@dataclass(frozen=True, kw_only=True)
class _Line:
    name: str
    steps: tuple[int, ...]
    values: tuple[float, ...]
    marker: str
    color: int


@dataclass(frozen=True, kw_only=True)
class _Axis:
    limits: tuple[float, float]
    ticks: tuple[float, ...]
    labels: tuple[str, ...]


def curve(
    *series: Series, width: int, height: int, title: str, color: bool = False, unicode: bool = True
) -> str:
    """A chart of one or several series over their steps: `height` lines of at most `width` columns.

    Drawn are the finite values, at most a few per column; a last line names the series where there are
    several, and says how many values were left out. `color` adds ANSI colours; without `unicode` it is pure
    ASCII, apart from the names. Both sizes have a minimum.
    """
    width, height = max(width, _MIN_WIDTH), max(height, _MIN_HEIGHT)
    lines = tuple(_lines(series, width, distinct=len(series) > 1 and not color, unicode=unicode))
    legend = _legend(series, lines, color=color)
    rows = [title[:width].center(width).rstrip(), *([legend] if legend else [])]
    if not lines:
        return "\n".join([*rows, "no values to draw"])
    plot = _plot(lines, width, height - len(rows), color=color)
    return "\n".join([rows[0], plot if unicode else plot.translate(_BOX), *rows[1:]])


def _lines(series: Sequence[Series], width: int, *, distinct: bool, unicode: bool) -> Iterator[_Line]:
    looks = zip(itertools.cycle(_MARKERS), itertools.cycle(_COLORS), strict=False)
    for one, (marker, color) in zip(series, looks, strict=False):
        kept = [point for point in zip(one.steps, one.values, strict=True) if abs(point[1]) <= _LARGEST]
        if not kept:
            continue
        steps, values = zip(*_thinned(kept, 2 * width), strict=True)
        marked = _BRAILLE if unicode and not distinct else marker
        yield _Line(name=one.name, steps=steps, values=values, marker=marked, color=color)


def _thinned(points: Sequence[tuple[int, float]], buckets: int) -> Iterator[tuple[int, float]]:
    """The ends and the extremes of each of `buckets` stretches, in order; all points where there are few."""
    size = math.ceil(len(points) / buckets)
    if size <= 4:
        yield from points
        return
    for start in range(0, len(points), size):
        stretch = points[start : start + size]
        lowest = min(stretch, key=lambda point: point[1])
        highest = max(stretch, key=lambda point: point[1])
        yield from sorted({stretch[0], lowest, highest, stretch[-1]})


def _legend(series: Sequence[Series], lines: Sequence[_Line], *, color: bool) -> str:
    parts = [_named(line, color=color) for line in lines] if len(series) > 1 else []
    left_out = sum(not abs(value) <= _LARGEST for one in series for value in one.values)
    if left_out:
        parts.append(f"({left_out} not finite)")
    return "  ".join(parts)


def _named(line: _Line, *, color: bool) -> str:
    marker = "⠒" if line.marker == _BRAILLE else line.marker
    return f"\x1b[38;5;{line.color}m{marker} {line.name}\x1b[0m" if color else f"{marker} {line.name}"


def _plot(lines: Sequence[_Line], width: int, height: int, *, color: bool) -> str:
    # By name, since plotext has no types; its figure is one for the whole process, so it is cleared first.
    plotext = importlib.import_module("plotext")
    figure = plotext.figure
    figure.clear()
    figure.plot_size(width, height)
    figure.theme("simple" if color else "colorless")
    figure.legend(False)
    for line in lines:
        marker = plotext.marker(line.marker, pixel=line.color) if color else line.marker
        signal = figure.signal(list(line.steps), list(line.values), marker=marker)
        figure.draw(signal.lines())
    axes = (("y", "left", _y_axis(lines, height)), ("x", "lower", _x_axis(lines, width)))
    for name, side, axis in axes:
        ruler = figure.ruler(name, side)
        ruler.lim(*axis.limits)
        ruler.ticks(list(axis.ticks), list(axis.labels))
    text: str = figure.build().string(not color)
    return "\n".join(row.rstrip() for row in text.splitlines()).rstrip("\n")


def _y_axis(lines: Sequence[_Line], height: int) -> _Axis:
    lowest = min(min(line.values) for line in lines)
    highest = max(max(line.values) for line in lines)
    if lowest == highest:
        room = abs(lowest) / 10 or 1.0
        lowest, highest = lowest - room, highest + room
    step = _round_step((highest - lowest) / max(2, min(5, (height - 2) // 2)), smallest=0.0)
    first, last = math.floor(lowest / step), math.ceil(highest / step)
    ticks = tuple(count * step for count in range(first, last + 1))
    if len(set(ticks)) < 2:
        # The span is below what a float can tell apart.
        ticks = (lowest, highest)
    labels = tuple(_label(tick, step) for tick in ticks)
    return _Axis(limits=(ticks[0], ticks[-1]), ticks=ticks, labels=labels)


def _x_axis(lines: Sequence[_Line], width: int) -> _Axis:
    first = min(line.steps[0] for line in lines)
    last = max(line.steps[-1] for line in lines)
    if first == last:
        return _Axis(limits=(first - 1, first + 1), ticks=(first,), labels=(f"{first}",))
    step = int(_round_step((last - first) / max(2, width // 12), smallest=1.0))
    inner = range((first // step + 1) * step, last, step)
    # A label too near to an end would run into the end's own.
    ticks = (first, *(tick for tick in inner if min(tick - first, last - tick) * 2 >= step), last)
    labels = tuple(_count(tick, last) for tick in ticks)
    return _Axis(limits=(first, last), ticks=ticks, labels=labels)


def _round_step(step: float, *, smallest: float) -> float:
    """The next of 1, 2, 5, 10, … times a power of ten that is no less than `step`."""
    power = 10.0 ** math.floor(math.log10(max(step, smallest, 5e-324)))
    steps = (power * factor for factor in (1, 2, 5, 10))
    return max(next((one for one in steps if one >= step), step), smallest)


def _label(value: float, step: float) -> str:
    """The value, with as many digits as tell it from its neighbours."""
    if abs(value) < step / 2:
        return "0"
    digits = math.ceil(math.log10(abs(value)) - math.log10(step)) + 1
    return f"{value:.{min(max(digits, 3), 17)}g}"


def _count(step: int, highest: int) -> str:
    """The step in the unit that suits the highest one of the axis: 5000, or 0.5M and 1M."""
    if highest >= 10_000:
        for size, letter in ((10**12, "T"), (10**9, "G"), (10**6, "M"), (10**3, "k")):
            if highest >= size <= 10 * abs(step):
                return f"{step / size:.4g}{letter}"
    return str(step)


def sparkline(
    values: Sequence[float],
    *,
    width: int = 20,
    unicode: bool = True,
    limits: tuple[float, float] | None = None,
) -> str:
    """The values as at most `width` blocks from their lowest to their highest, or between `limits` that they keep.

    A blank where none is finite. Where there are more values than columns, a column shows the mean of its share.
    """
    levels = _BLOCKS if unicode else _ASCII_BLOCKS
    columns = [_mean(share) for share in _shares(values, width)]
    numbers = [column for column in columns if column is not None]
    if not numbers:
        return " " * len(columns)
    lowest, highest = limits or (min(numbers), max(numbers))
    span = highest - lowest
    return "".join(" " if one is None else levels[_level(one - lowest, span)] for one in columns)


def _level(above: float, span: float) -> int:
    top = len(_BLOCKS) - 1
    return round(above / span * top) if span else top // 2


def _shares(values: Sequence[float], width: int) -> Iterator[Sequence[float]]:
    columns = min(len(values), max(width, 1))
    for column in range(columns):
        yield values[column * len(values) // columns : (column + 1) * len(values) // columns]


def _mean(share: Sequence[float]) -> float | None:
    numbers = [value for value in share if abs(value) <= _LARGEST]
    return math.fsum(value / len(numbers) for value in numbers) if numbers else None
