"""Accepted runs -> followed to their ends, their lines printed, GitHub kept up to date in few calls."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from runner import follow, metrics, pipeline, runs
from runner.answer import knowledge
from runner.answer.accept import of_pull
from runner.answer.voice import Voice
from runner.errors import EngineError, PlanError, StoreError

if TYPE_CHECKING:
    from runner.answer.desk import Desk
    from runner.answer.said import Said
    from runner.follow import Event
    from runner.metrics import Point
    from runner.pipeline import Workshop
    from runner.plan import Plan
    from runner.report.facts import RunFacts
    from runner.runs import Run

logger = logging.getLogger(__name__)

Say = Callable[["Event"], None]
TAKE_UP_TIMES = 3
NEWS_PAUSE_S = 3.0


def pause_s(running_s: float) -> float:
    """Seconds between two updates of a check: a run of ten minutes gets some 20, one of a week some 1,000."""
    for since_s, pause in ((3600 * 6, 600.0), (3600, 300.0), (600, 60.0)):
        if running_s >= since_s:
            return pause
    return 30.0


class Attendance:
    """One run, followed. `step` goes on until nothing is new; then somebody else has his turn."""

    def __init__(self, desk: Desk, shop: Workshop, said: Said, *, every_s: float, show: Say) -> None:
        self._desk, self._shop, self._show = desk, shop, show
        self._store, self.run_id = shop.store, said.run_id
        self._known = knowledge.background(self._store, self.run_id)
        self.voice = Voice(desk, said, store=self._store, name=self._known.plan.name)
        self._points: list[Point] = []
        self._run: Run | None = None
        self._told_at_s = 0.0
        self._is_news = False
        self._began_s = time.monotonic()
        self._every_s, self._taken_up, self._cancelled = every_s, 0, False
        self._streams = follow.Streams(self._store, self.run_id)
        self._events = self._follow()

    @property
    def run(self) -> Run | None:
        """The run as it was seen last."""
        return self._run

    @property
    def plan(self) -> Plan:
        """What was planned."""
        return self._known.plan

    @property
    def desk(self) -> Desk:
        """What is at hand."""
        return self._desk

    def renew(self, desk: Desk) -> None:
        """Go on with another token, which may be allowed what the one before was denied."""
        self._desk = desk
        self.voice.renew(desk)

    def look(self) -> Run:
        """Read the run as it stands. Raises RunNotFound before its supervisor made it."""
        self._run = runs.load(self._store, self.run_id)
        return self._run

    def step(self) -> bool:
        """Take what is new; returns False once the run ended.

        A supervisor that died is replaced, up to a limit; then EngineError is raised, as it is where it cannot be
        replaced from here, for want of the run's secrets.
        """
        try:
            return self._step()
        except EngineError as error:
            if self._run is None or self._cancelled or self._taken_up == TAKE_UP_TIMES:
                raise
            self._taken_up += 1
            logger.warning("%s: its supervisor died and is replaced (%s)", self.run_id, error)
            self._resume(self._run)
            self._events = self._follow()
            return True

    def _resume(self, run: Run) -> None:
        try:
            pipeline.resume(self._shop, run)
        except PlanError as error:
            tip = run.tip or f"where its secrets are in the environment: pushtrain resume {run.id}"
            raise EngineError(f"the supervisor of {run.id} is gone; {error}", tip=tip) from error

    def _follow(self) -> Iterator[Event]:
        return follow.follow(
            self._store,
            self.run_id,
            every_s=self._every_s,
            supervised=lambda run: pipeline.supervised(self._shop, run),
            streams=self._streams,
        )

    def _step(self) -> bool:
        for event in self._events:
            self._show(event)
            if isinstance(event, follow.Moved):
                self._moved(event.run)
            elif isinstance(event, follow.Measured):
                self._points.extend(event.points)
            elif isinstance(event, follow.Quiet):
                self._keep_up()
                return True
        return False

    def cancel(self, *, how: str, why: str) -> None:
        """Ask the run to end, and say so on GitHub at once: this process may be killed in seconds."""
        self._cancelled = True
        runs.request_cancel(self._store, self.run_id, how=how, why=why)
        if self._run is not None:
            self.tell(notes=(f"cancelling: {why}; what the run wrote so far is being kept",))

    def tell(self, *, notes: Sequence[str] = (), lost: bool = False) -> None:
        """Say how the run stands now; that it is `lost` where nobody moves it on."""
        assert self._run is not None
        self._is_news = False
        self._told_at_s = time.monotonic()
        if not self.voice.speaks():
            return
        self.voice.say_check(self.facts(notes=notes), lost=lost)
        if self._is_newest():
            self.voice.say_comment(self.facts(notes=notes))  # With a link to the check, which may be new.

    def facts(self, *, notes: Sequence[str] = ()) -> RunFacts:
        """What is known of the run now."""
        assert self._run is not None
        said = self.voice.said
        others = of_pull(self._store, self._desk.name, said.pull) if said.pull is not None else []
        return knowledge.facts(
            self._store,
            self._run,
            self._known,
            said=said,
            place=replace(self._desk.place, job_url=said.job_url or self._desk.place.job_url),
            notes=(*self._reuse(), *self._known.plan.notes, *self._desk.features.notes, *notes),
            series=None if self._run.state.ended else metrics.series(self._points),
            earlier=[each for each in others if each.name == self._run.name and each.id < self._run.id],
        )

    def _reuse(self) -> tuple[str, ...]:
        if not self.voice.said.reused:
            return ()
        commit = str(self._known.plan.asked.commit)[:10]
        return (
            f"nothing was trained: run {self.run_id} of commit {commit} did just this, and this is its result",
        )

    def _moved(self, run: Run) -> None:
        before, self._run = self._run, run
        if before is None or before.state is not run.state or before.reason != run.reason:
            self._is_news = True
        self._keep_up()

    def _keep_up(self) -> None:
        if self._run is None or self._run.state.ended:
            return  # The end is told once the release is there.
        if not self._told_at_s and not pipeline.supervised(self._shop, self._run):
            return  # Whether somebody moves it on is known in a moment.
        since_s = time.monotonic() - self._told_at_s
        pause = NEWS_PAUSE_S if self._is_news else pause_s(time.monotonic() - self._began_s)
        try:
            self.voice.stay()
            if not self._told_at_s or since_s > pause:
                self.tell()
        except StoreError as error:
            logger.warning("%s: how it stands is told later: %s", self.run_id, error)
            self._is_news = True

    def _is_newest(self) -> bool:
        """Whether the comment is still about this run: a newer one of the same pull request and model takes it over."""
        pull = self.voice.said.pull
        if pull is None:
            return False
        newest = next(
            (
                each
                for each in of_pull(self._store, self._desk.name, pull)
                if each.name == self._known.plan.name
            ),
            None,
        )
        return newest is None or newest.id <= self.run_id


def attend(attendances: Sequence[Attendance], *, stopped: Callable[[], str | None]) -> None:
    """Follow all of them, turn by turn, until each ended. Blocks.

    `stopped` says how the job was asked to end (`stop`, then `kill`), None as long as it was not: the runs are then
    cancelled, and followed on for as long as this process is let live.
    """
    waiting = [each for each in attendances if each.run is None or not each.run.state.ended]
    how: str | None = None
    while waiting:
        for each in tuple(waiting):
            try:
                goes_on = each.step()
            except EngineError as error:
                logger.error("%s", error)
                each.tell(notes=(f"{error}; {error.tip}",), lost=True)
                goes_on = False
            if not goes_on:
                waiting.remove(each)
        if (wish := stopped()) != how:
            how = wish
            for each in waiting:
                each.cancel(how=str(how), why="the job was cancelled")
