"""A run's folder -> what happens in it, as it happens: any process with access to the store may follow."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from runner import metrics, runs
from runner.errors import EngineError, RunNotFound
from runner.store.patience import patient

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from runner.metrics import Point
    from runner.runs import Run
    from runner.store import Store

START_WITHIN_S = 30.0
_TRAINING = (runs.State.QUEUED, runs.State.PREPARING, runs.State.WAITING, runs.State.RUNNING)
_LINE_END = re.compile(rb"\r\n|\n|\r")


@dataclass(frozen=True, kw_only=True)
class Moved:
    """The run changed: its state, its reason or its attempts."""

    run: Run


@dataclass(frozen=True, kw_only=True)
class Lines:
    """New whole lines of one stream; `rank` is None for the build of the environment."""

    rank: int | None
    lines: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Measured:
    """New points of metrics."""

    points: tuple[Point, ...]


@dataclass(frozen=True, kw_only=True)
class Quiet:
    """Nothing new: a moment to draw, or to look at something else."""


Event = Moved | Lines | Measured | Quiet


class Tail:
    """Reads a stream of lines from where it stopped."""

    def __init__(self, store: Store, key: str) -> None:
        self._store, self._key = store, key
        self._offset = 0

    def read(self, *, last: bool = False) -> tuple[str, ...]:
        """New whole lines; with `last` also one without an end."""
        data = self._store.tail(self._key, offset=self._offset)
        end = len(data) if last else max(data.rfind(b"\n"), data.rfind(b"\r")) + 1
        self._offset += end
        pieces = _LINE_END.split(data[:end])
        if pieces and not pieces[-1]:
            pieces.pop()
        return tuple(piece.decode(errors="replace") for piece in pieces)


class Streams:
    """All the streams of a run: the build's, and every rank's of every attempt so far."""

    def __init__(self, store: Store, run_id: str) -> None:
        self._store, self._id = store, run_id
        self._build = Tail(store, runs.build_log_key(run_id))
        self._metrics = Tail(store, runs.metrics_key(run_id))
        self._ranks: dict[tuple[int, int], Tail] = {}

    def read(self, run: Run, *, last: bool) -> Iterator[Event]:
        """What is new in them."""
        if not run.attempts or last:
            yield from _lines(None, self._build.read(last=last))
        for attempt in range(1, run.attempt + 1):
            for rank in range(run.world_size + run.launchers):
                key = runs.log_key(self._id, attempt=attempt, rank=rank)
                tail = self._ranks.setdefault((attempt, rank), Tail(self._store, key))
                yield from _lines(rank, tail.read(last=last))
        text = "".join(line + "\n" for line in self._metrics.read())
        if text:
            yield Measured(points=metrics.decode(text.encode()))


def _lines(rank: int | None, lines: tuple[str, ...]) -> Iterator[Event]:
    if lines:
        yield Lines(rank=rank, lines=lines)


def follow(
    store: Store,
    run_id: str,
    *,
    every_s: float,
    supervised: Callable[[Run], bool],
    streams: Streams | None = None,
) -> Iterator[Event]:
    """What happens in the run, until it ended and everything was read. Blocks between events for `every_s`.

    `supervised` says whether the run's supervisor lives, as far as this machine can know; `streams` are those of an
    earlier follower that goes on here. A store that does not answer for a while is waited for. Raises EngineError when
    the supervisor died, with the command that takes the run up again; RunNotFound when the run never starts.
    """
    before: Run | None = None
    run = _first(store, run_id, every_s=every_s)
    store = patient(store)
    streams = streams or Streams(store, run_id)
    while True:
        past_training = before is not None and run.state not in _TRAINING
        if past_training:  # What the ranks said comes before what happened after them.
            yield from streams.read(run, last=run.state.ended)
        if run != before:
            yield Moved(run=run)
            before = run
        if not past_training:
            yield from streams.read(run, last=False)
        if run.state.ended:
            return
        yield Quiet()
        alive = supervised(run)
        time.sleep(every_s)
        run = runs.load(store, run_id)
        if not alive and not run.state.ended:
            why = f": {run.reason}" if run.reason else ""
            raise EngineError(
                f"the supervisor of {run_id} is gone, in state {run.state}{why}; what was synced is kept",
                tip=goes_on(run),
            )


def goes_on(run: Run) -> str:
    """What to type for a run that nobody supervises; on a host of a fleet, that it is taken up by itself."""
    resume = f"pushtrain resume {run.id}"
    if run.tip or not taken_up_by_itself(run):
        return run.tip or resume
    return f"the head's agent takes it up by itself within minutes: pushtrain logs -f {run.id}; at once: {resume}"


def taken_up_by_itself(run: Run) -> bool:
    """Whether this machine is of a fleet whose head has an agent, and the run is of a fleet. See agent/revival.py."""
    from runner.slurm.client import run_folder

    return run.engine == "slurm" and (run_folder() / "slurm.conf").exists()


def _first(store: Store, run_id: str, *, every_s: float) -> Run:
    deadline_s = time.monotonic() + START_WITHIN_S
    while True:
        try:
            return runs.load(store, run_id)
        except RunNotFound:
            if time.monotonic() > deadline_s:
                raise
        time.sleep(every_s)
