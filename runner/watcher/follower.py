"""The outbox of a repository -> each run in it followed to its end and told of on GitHub, whoever started it."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from runner import pipeline, runs
from runner.answer import finish, voice
from runner.answer import said as memory
from runner.answer.attend import Attendance
from runner.errors import EngineError, NotFound, RunNotFound
from runner.watcher.guard import guarded

if TYPE_CHECKING:
    from runner.answer.desk import Desk
    from runner.answer.said import Said
    from runner.errors import PushtrainError
    from runner.follow import Event

logger = logging.getLogger(__name__)

LONGEST_PAUSE_S = 600.0
OTHERS_PAUSE_S = 30.0
# A run that has no run.json for so long was never started: whoever asked for it died, and nobody asked again.
NEVER_STARTED_S = 24 * 3600.0
JOBS_OWN_S = 60.0


@dataclass(kw_only=True)
class _Followed:
    """A run that is followed; `wait_s` is the pause after what GitHub did not take."""

    said: Said
    attendance: Attendance | None = None
    wait_s: float = 0.0
    due_s: float = 0.0


@dataclass(kw_only=True)
class Follower:
    """All runs of one repository of which something is left to say. Of one thread.

    Of several that follow a run, one speaks: a job of Actions for its own runs, as long as it lives.
    """

    desk: Callable[[], Desk]
    every_s: float
    _runs: dict[str, _Followed] = field(default_factory=dict)

    @property
    def idle(self) -> bool:
        """Whether nothing is left to say."""
        return not self._runs

    @property
    def announced(self) -> bool:
        """Whether GitHub was told of each run, as far as it has begun and GitHub could be told."""
        return all(each.attendance is not None or each.wait_s for each in self._runs.values())

    @property
    def missed(self) -> bool:
        """Whether something could not be said, so that it is tried again later."""
        return any(each.wait_s for each in self._runs.values())

    def look(self) -> None:
        """See which runs there are. Raises StoreError, and GitHubError where there is no token to speak with."""
        desk = self.desk()
        due = set(memory.due(desk.shop.store, desk.name))
        for key in self._runs.keys() - due:
            del self._runs[key]
        for key in due - self._runs.keys():
            said = memory.load(desk.shop.store, desk.name, key)
            if said is not None:
                self._runs[key] = _Followed(said=said)

    def restart(self) -> None:
        """Follow anew, by a new connection, from the next `look` on."""
        for followed in self._runs.values():
            if followed.attendance is not None:
                followed.attendance.voice.leave()
        self._runs.clear()

    def step(self) -> None:
        """Take each run a step on, and say what is new of it. Never waits for a run."""
        now_s = time.monotonic()
        for followed in [each for each in self._runs.values() if each.due_s <= now_s]:
            error = guarded(lambda followed=followed: self._step(followed))  # type: ignore[misc]
            if error is not None:
                self._failed(followed, error)

    def _step(self, followed: _Followed) -> None:
        followed.due_s = time.monotonic() + self.every_s
        if followed.attendance is None:
            desk = self.desk()
            if _is_a_jobs(desk, followed.said) or not _is_there(desk, followed.said):
                return
            followed.attendance = _attendance(desk, followed.said)
        attendance = followed.attendance
        run = attendance.run or attendance.look()
        if not run.state.ended and attendance.step():
            if not attendance.voice.said.detached and attendance.voice.speaks():
                attendance.voice.detach()
            return
        ended = attendance.look()
        if not followed.wait_s:
            logger.info("%s %s", ended.id, ended.state)
        if followed.wait_s:
            attendance.renew(self.desk())
        finish.last_word(attendance)
        if not attendance.voice.said.closed:
            self._leave(followed, attendance)

    def _leave(self, followed: _Followed, attendance: Attendance) -> None:
        """Something is left to say. Meanwhile others may speak: a job may be allowed what we are not."""
        # Whoever else speaks of it may be gone at any time.
        longest_s = LONGEST_PAUSE_S if attendance.voice.speaks() else OTHERS_PAUSE_S
        attendance.voice.leave()
        self._pause(followed, longest_s=longest_s)

    def _failed(self, followed: _Followed, error: PushtrainError) -> None:
        logger.warning("%s: %s", followed.said.run_id, error)
        attendance = followed.attendance
        if isinstance(error, EngineError) and attendance is not None and attendance.run is not None:
            lost = (f"{error}; {error.tip}",)
            guarded(lambda: attendance.tell(notes=lost, lost=True))
        followed.attendance = None
        if attendance is not None:
            attendance.voice.leave()
        self._pause(followed)

    def _pause(self, followed: _Followed, *, longest_s: float = LONGEST_PAUSE_S) -> None:
        followed.wait_s = min(max(2 * followed.wait_s, 2 * self.every_s), longest_s)
        followed.due_s = time.monotonic() + followed.wait_s


def _attendance(desk: Desk, said: Said) -> Attendance:
    shop = replace(desk.shop, engine_name=pipeline.plan_of(desk.shop.store, said.run_id).engine)
    return Attendance(desk, shop, said, every_s=0.0, show=_nothing)


def _is_a_jobs(desk: Desk, said: Said) -> bool:
    """Whether the job that started the run may be about to speak of it; once it did, its turn says how long it does."""
    is_young = time.time() - runs.asked_at_s(said.run_id) < JOBS_OWN_S
    return is_young and not said.detached and not voice.spoke(desk.shop.store, said)


def _is_there(desk: Desk, said: Said) -> bool:
    """Whether the run's supervisor made it; one that nobody ever made is forgotten after a day."""
    store = desk.shop.store
    try:
        runs.load(store, said.run_id)
    except (RunNotFound, NotFound):
        if time.time() - runs.asked_at_s(said.run_id) > NEVER_STARTED_S:
            memory.close_outbox(store, said)
        return False
    return True


def _nothing(_: Event) -> None:
    """Shows nothing."""
