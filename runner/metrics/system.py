"""What a host sees of a run's GPUs -> points of system metrics, the fewer the older the attempt; and back: pure.

The names and the percent are those of MLflow's system metrics:
https://mlflow.org/docs/latest/ml/tracking/system-metrics/
"""

from __future__ import annotations

import itertools
import math
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from runner.metrics.points import Point, Series, series

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

# Of an attempt of a week about five times as many are kept for all of its GPUs, of each thing that is looked at.
POINTS = 1500
# What two floats that are the same second may differ by.
_INEXACT_S = 1e-6
BUSY, MEMORY = "utilization_percentage", "memory_usage_percentage"
_NAME = re.compile(rf"system/(?:node-(\d+)/)?gpu_(\d+)_({BUSY}|{MEMORY})")


@dataclass(frozen=True, kw_only=True)
class Seen:
    """One look at a GPU, shares of 1; None where NVML does not tell, as of how busy a MIG instance is."""

    busy: float | None
    memory: float | None


@dataclass(frozen=True, kw_only=True)
class GpuSeries:
    """What was seen of one GPU in percent; its number is that among the job's GPUs on its node.

    `begins` are the steps at which an attempt was first looked at: nothing is known of the time before each.
    """

    node: int
    gpu: int
    busy: Series | None = None
    memory: Series | None = None
    begins: frozenset[int] = frozenset()


class Thinned:
    """The GPUs of one node in one attempt. `node` is None where the run has no other."""

    def __init__(self, uuids: Sequence[str], *, node: int | None, nodes: int) -> None:
        self._prefix = "system/" if node is None else f"system/node-{node}/"
        self._numbers = {uuid: number for number, uuid in enumerate(uuids)}
        self._share = len(uuids) * nodes / POINTS
        self._began_s: float | None = None
        self._since_s = self._last_s = 0.0
        self._sums: dict[str, tuple[float, int]] = {}

    def add(self, seen: Mapping[str, Seen], *, time_s: float) -> tuple[Point, ...]:
        """Take a look of that moment; the means since the last points where it is time for new ones, else ()."""
        if self._began_s is None:
            self._began_s = self._since_s = time_s
        self._last_s = time_s
        for uuid, look in seen.items():
            if uuid in self._numbers:
                self._sum(f"{self._prefix}gpu_{self._numbers[uuid]}_", look)
        # What is kept is spread by the attempt's age, so that it stays small however long the attempt lasts.
        waits_s = (time_s - self._began_s) * self._share
        return self.rest() if time_s - self._since_s >= waits_s else ()

    def rest(self) -> tuple[Point, ...]:
        """The means of what was seen since the last points; () where that is nothing."""
        began_s = self._began_s if self._began_s is not None else 0.0
        points = tuple(
            Point(
                name=name,
                step=int(self._last_s - began_s),
                value=round(total / count, 1),
                time_s=self._last_s,
            )
            for name, (total, count) in self._sums.items()
        )
        self._since_s, self._sums = self._last_s, {}
        return points

    def _sum(self, prefix: str, look: Seen) -> None:
        for name, share in ((BUSY, look.busy), (MEMORY, look.memory)):
            if share is not None:
                total, count = self._sums.get(prefix + name, (0.0, 0))
                self._sums[prefix + name] = (total + 100 * share, count + 1)


def by_gpu(streams: Iterable[Iterable[Point]]) -> tuple[GpuSeries, ...]:
    """A series of each GPU by node and number, of `streams` of one attempt on one node each.

    Its steps are seconds since the first look at any.
    """
    every = [tuple(stream) for stream in streams]
    began_s = min((point.time_s for stream in every for point in stream), default=0.0)
    timed = [[replace(point, step=int(point.time_s - began_s)) for point in stream] for stream in every]
    begins: dict[str, set[int]] = {}
    for stream in timed:
        for name, told in series(stream).items():
            begins.setdefault(name, set()).add(told.steps[0])
    found: dict[tuple[int, int], GpuSeries] = {}
    for node, gpu, what, told in _parsed(series(itertools.chain.from_iterable(timed))):
        gpus = found.setdefault((node, gpu), GpuSeries(node=node, gpu=gpu))
        gpus = replace(gpus, begins=gpus.begins | begins[told.name])
        found[node, gpu] = replace(gpus, busy=told) if what == BUSY else replace(gpus, memory=told)
    return tuple(found[key] for key in sorted(found))


def _parsed(timed: Mapping[str, Series]) -> Iterator[tuple[int, int, str, Series]]:
    for name, told in timed.items():
        if match := _NAME.fullmatch(name):
            yield int(match[1] or 0), int(match[2]), match[3], told


def mean(told: Series, *, begins: Collection[int] = ()) -> float:
    """The mean over the time, since points lie the farther apart the older the attempt was; of one point its value.

    The waits before `begins` count for nothing.
    """
    known = [(until - since, value) for since, until, value in _known(told, begins)]
    return sum(span_s * value for span_s, value in known) / sum(span_s for span_s, _ in known)


def spread(
    told: Series, *, begins: Collection[int] = (), first: int, last: int, count: int
) -> tuple[float | None, ...]:
    """The means of `count` stretches of equal length, the first of which ends at `first`, the last at `last`.

    None where nothing is known of a stretch. GPUs that are looked at in turns are comparable so.
    """
    length = (last - first) / max(count - 1, 1) or 1.0
    start = first - length
    sums = [(0.0, 0.0)] * count
    for since, until, value in _known(told, begins):
        begin = max(0, math.floor((since - start) / length))
        for number in range(begin, min(count, math.ceil((until - start) / length))):
            within_s = min(until, start + (number + 1) * length) - max(since, start + number * length)
            total, weight_s = sums[number]
            sums[number] = (total + value * within_s, weight_s + within_s)
    return tuple(total / weight_s if weight_s > _INEXACT_S else None for total, weight_s in sums)


def _known(told: Series, begins: Collection[int]) -> Iterator[tuple[int, int, float]]:
    """Since when, until when, and the mean of that time: a point is that of the time since the one before."""
    steps = told.steps
    for number, (step, value) in enumerate(zip(steps, told.values, strict=True)):
        if number and step not in begins:
            yield steps[number - 1], step, value
        else:  # The first look: as long as it is to the second.
            after = steps[number + 1] if number + 1 < len(steps) else None
            span = after - step if after is not None and after not in begins else 1
            yield step - span, step, value
