"""What a host sees of a run's GPUs -> points of system metrics, the fewer the older the attempt; and back: pure.

The names and the percent are those of MLflow's system metrics:
https://mlflow.org/docs/latest/ml/tracking/system-metrics/
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from runner.metrics.points import Point, Series, series

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

# Of an attempt of a week about five times as many are kept for all of its GPUs, of each thing that is looked at.
POINTS = 1500
BUSY, MEMORY = "utilization_percentage", "memory_usage_percentage"
_NAME = re.compile(rf"system/(?:node-(\d+)/)?gpu_(\d+)_({BUSY}|{MEMORY})")


@dataclass(frozen=True, kw_only=True)
class Seen:
    """One look at a GPU, shares of 1; None where NVML does not tell, as of how busy a MIG instance is."""

    busy: float | None
    memory: float | None


@dataclass(frozen=True, kw_only=True)
class GpuSeries:
    """What was seen of one GPU in percent; its number is that among the job's GPUs on its node."""

    node: int
    gpu: int
    busy: Series | None = None
    memory: Series | None = None


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


def by_gpu(points: Iterable[Point]) -> tuple[GpuSeries, ...]:
    """A series of each GPU of all attempts, by node and number; its steps are seconds since the first look at any."""
    every = tuple(points)
    began_s = min((point.time_s for point in every), default=0.0)
    timed = series(replace(point, step=int(point.time_s - began_s)) for point in every)
    found: dict[tuple[int, int], GpuSeries] = {}
    for node, gpu, what, told in _parsed(timed):
        gpus = found.setdefault((node, gpu), GpuSeries(node=node, gpu=gpu))
        found[node, gpu] = replace(gpus, busy=told) if what == BUSY else replace(gpus, memory=told)
    return tuple(found[key] for key in sorted(found))


def _parsed(timed: Mapping[str, Series]) -> Iterator[tuple[int, int, str, Series]]:
    for name, told in timed.items():
        if match := _NAME.fullmatch(name):
            yield int(match[1] or 0), int(match[2]), match[3], told


def mean(told: Series) -> float:
    """The mean over the time, since points lie the farther apart the older the attempt was; of one point its value."""
    spans = [after - before for before, after in zip(told.steps, told.steps[1:], strict=False)]
    if not spans:
        return told.last
    weights = (spans[0], *spans)
    weighted = sum(value * weight for value, weight in zip(told.values, weights, strict=True))
    return weighted / sum(weights)
