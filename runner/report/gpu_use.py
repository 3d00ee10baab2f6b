"""What the GPUs of a run did -> a sentence, and a line of each on a terminal: pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from runner import charts
from runner.metrics import Series, system

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from runner.metrics.system import GpuSeries

# Of more GPUs those are shown that had least to do.
MOST_LINES = 8
SPARK_WIDTH = 24
CURVE = "GPUs busy in percent, by seconds"
_PERCENT = (0.0, 100.0)


def sentence(gpus: Sequence[GpuSeries]) -> str:
    """Such as `GPUs 87% busy, the least 83%`; empty where nothing is known."""
    means = [system.mean(gpu.busy) for gpu in gpus if gpu.busy is not None]
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
        shown = sorted(gpus, key=lambda gpu: system.mean(gpu.busy) if gpu.busy else 100.0)[:MOST_LINES]
    for gpu in shown:
        name = f"node {gpu.node} GPU {gpu.gpu}" if nodes else f"GPU {gpu.gpu}"
        yield "  ".join(filter(None, (name, _busy(gpu.busy), _memory(gpu.memory))))


def curve(gpus: Sequence[GpuSeries]) -> Series | None:
    """How busy they were in the mean, by seconds; None where nothing is known."""
    values: dict[int, list[float]] = {}
    for gpu in gpus:
        for step, value in zip(gpu.busy.steps, gpu.busy.values, strict=True) if gpu.busy else ():
            values.setdefault(step, []).append(value)
    if not values:
        return None
    steps = tuple(sorted(values))
    return Series(name=CURVE, steps=steps, values=tuple(sum(values[s]) / len(values[s]) for s in steps))


def _busy(told: Series | None) -> str:
    if told is None:
        return ""
    drawn = charts.sparkline(told.values, width=SPARK_WIDTH, limits=_PERCENT) if len(told.values) > 1 else ""
    return "  ".join(filter(None, (f"{system.mean(told):3.0f}% busy", drawn)))


def _memory(told: Series | None) -> str:
    return f"memory {max(told.values):.0f}% at most" if told is not None else ""
