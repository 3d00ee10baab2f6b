"""What the GPUs of a run did -> a sentence, and a line of each on a terminal: pure."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from runner import charts
from runner.metrics import Series, system

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from runner.metrics.system import GpuSeries

# Of more GPUs those are shown that had least to do.
MOST_LINES = 8
SPARK_WIDTH = 24
MOST_POINTS = 60
CURVE = "GPUs busy in percent, by seconds"
_PERCENT = (0.0, 100.0)


def sentence(gpus: Sequence[GpuSeries]) -> str:
    """Such as `GPUs 87% busy, the least 83%`; empty where nothing is known."""
    means = [mean for gpu in gpus if (mean := _mean(gpu)) is not None]
    if not means:
        return ""
    if len(means) == 1:
        return f"GPU {means[0]:.0f}% busy"
    return f"GPUs {sum(means) / len(means):.0f}% busy, the least {min(means):.0f}%"


def lines(gpus: Sequence[GpuSeries]) -> Iterator[str]:
    """A line of each GPU: how busy it was in the mean, when, and the most of its memory that was used."""
    nodes = len({gpu.node for gpu in gpus}) > 1
    shown = gpus
    if len(gpus) > MOST_LINES:
        yield f"{sentence(gpus)}; those with least to do:" if sentence(gpus) else f"{len(gpus)}, of which:"
        shown = sorted(gpus, key=_least_first)[:MOST_LINES]
    for gpu in shown:
        name = f"node {gpu.node} GPU {gpu.gpu}" if nodes else f"GPU {gpu.gpu}"
        yield "  ".join(filter(None, (name, _busy(gpu), _memory(gpu.memory))))


def curve(gpus: Sequence[GpuSeries]) -> Series | None:
    """How busy they were in the mean, by seconds; None where nothing is known. No two need be looked at at once."""
    known = [(gpu.busy, gpu.begins) for gpu in gpus if gpu.busy is not None]
    if not known:
        return None
    first, last = min(busy.steps[0] for busy, _ in known), max(busy.steps[-1] for busy, _ in known)
    count = min(MOST_POINTS, max(len(busy.steps) for busy, _ in known))
    each = [system.spread(busy, begins=begins, first=first, last=last, count=count) for busy, begins in known]
    moments = [round(first + number * (last - first) / max(count - 1, 1)) for number in range(count)]
    told = {moment: _of_all(values) for moment, values in zip(moments, zip(*each, strict=True), strict=True)}
    drawn = {moment: value for moment, value in told.items() if value is not None}
    return Series(name=CURVE, steps=tuple(drawn), values=tuple(drawn.values()))


def _of_all(values: Iterable[float | None]) -> float | None:
    numbers = [value for value in values if value is not None]
    return sum(numbers) / len(numbers) if numbers else None


def _mean(gpu: GpuSeries) -> float | None:
    return system.mean(gpu.busy, begins=gpu.begins) if gpu.busy is not None else None


def _least_first(gpu: GpuSeries) -> float:
    mean = _mean(gpu)
    return mean if mean is not None else 100.0


def _busy(gpu: GpuSeries) -> str:
    if gpu.busy is None:
        return ""
    steps, drawn = gpu.busy.steps, ""
    if len(steps) > 1:
        count = min(SPARK_WIDTH, len(steps))
        spread = system.spread(gpu.busy, begins=gpu.begins, first=steps[0], last=steps[-1], count=count)
        columns = [value if value is not None else math.nan for value in spread]
        drawn = charts.sparkline(columns, width=SPARK_WIDTH, limits=_PERCENT)
    return "  ".join(filter(None, (f"{_mean(gpu):3.0f}% busy", drawn)))


def _memory(told: Series | None) -> str:
    return f"memory {max(told.values):.0f}% at most" if told is not None else ""
