"""A run's folder as its supervisor writes it: where the run stands, how its attempts ended, why it goes no further."""

from __future__ import annotations

import contextlib
import json
import logging
import time
from typing import TYPE_CHECKING

import msgspec

from runner import causes, metrics, runs
from runner.errors import Displaced, EngineError, NotFound, StoreError
from runner.gang import Outcome
from runner.place import Reservation
from runner.runs import State

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from runner.errors import PushtrainError
    from runner.runs import Attempt, Run, Supervisor
    from runner.store import Store

logger = logging.getLogger(__name__)


class Record:
    """One run's `run.json` and what lies beside it. Every method reads what is there now; each may be repeated."""

    def __init__(self, store: Store, run_id: str) -> None:
        self.store, self.id = store, run_id
        self._owner: Supervisor | None = None
        self._before: Supervisor | None = None

    @property
    def state(self) -> State:
        """Where the run stands."""
        return self.load().state

    def load(self) -> Run:
        """The run as it is now. Raises RunNotFound."""
        return runs.load(self.store, self.id)

    def take(self, owner: Supervisor) -> Run:
        """From now on the run is this supervisor's, and what another one writes is refused. Safe to repeat.

        Raises Displaced where a later start of the same job has the run: this one was cut off and is the last to know.
        """

        def taken(run: Run) -> Run:
            if run.supervisor is not None and _is_earlier(owner.job, run.supervisor.job):
                raise Displaced(f"a later start of its job has {self.id}", tip=f"pushtrain show {self.id}")
            return msgspec.structs.replace(run, supervisor=owner)

        self._owner = None
        before = self.load().supervisor
        run = runs.update(self.store, self.id, taken)
        self._before = before if before != owner else self._before
        self._owner = owner
        return run

    def change(self, **changes: object) -> Run:
        """Change what is said of the run. Raises Displaced where another supervisor has taken it over."""
        return self._update(lambda run: msgspec.structs.replace(run, **changes))

    def move(self, state: State, **changes: object) -> Run:
        """Move the run on, as `runs.moved`. Raises as `change`."""
        logger.info("%s: %s", self.id, state)
        now_s = time.time()
        return self._update(lambda run: runs.moved(run, state, at_s=now_s, **changes))

    def _update(self, change: Callable[[Run], Run]) -> Run:
        def mine(run: Run) -> Run:
            if self._owner is not None and run.supervisor != self._owner:
                raise Displaced(
                    f"another supervisor has taken {self.id} over", tip=f"pushtrain show {self.id}"
                )
            return change(run)

        return runs.update(self.store, self.id, mine)

    def wait_again(self, error: Displaced) -> None:
        """Write down that the hosts are gone and the run waits again. Safe to repeat, and where it is not ours."""
        self.say(str(error))
        with contextlib.suppress(StoreError, Displaced):
            self.warn(filter(None, (error.remark,)))
            attempts = self.load().attempts
            if attempts and not attempts[-1].outcome:
                self.note_end(Outcome(kind="lost", code=error.exit_code, cause=str(error)), why="")
            if self.state not in (State.COLLECTING, State.PUBLISHING):
                self.move(State.QUEUED, reason=str(error), tip=error.tip)

    def tell(self, reason: str) -> None:
        """Tell whoever follows the run what it does now, empty for nothing in particular. Safe to repeat."""
        if self.load().reason != reason:
            self.change(reason=reason)

    def say(self, sentence: str) -> None:
        """Tell it to whoever reads the supervisor's log."""
        logger.info("%s: %s", self.id, sentence)

    def note_end(self, outcome: Outcome, *, why: str, at_s: float | None = None) -> None:
        """Write down how the last attempt ended, at `at_s` or now; `why` is the reason where somebody cancelled it."""
        cause = why
        if outcome.kind != "cancelled":
            cause = causes.explain(outcome.last_lines, signal=outcome.signal, known=outcome.cause)

        ended_at_s = time.time() if at_s is None else at_s

        def ended(run: Run) -> Run:
            last = msgspec.structs.replace(
                run.attempts[-1],
                ended_at_s=ended_at_s,
                outcome=outcome.kind,
                exit_code=outcome.code,
                signal=outcome.signal,
                failed_rank=outcome.failed_rank,
                failed_node=outcome.failed_node,
                failed_task=outcome.failed_task,
                cause=cause,
                last_lines=outcome.last_lines,
            )
            return msgspec.structs.replace(run, attempts=(*run.attempts[:-1], last))

        self._update(ended)

    def note_lost(self, *, why: str) -> None:
        """Write down that the last attempt was lost, unless its end is known; `why` as in `note_end`."""
        last = self.load().attempts[-1]
        if not last.outcome:
            self.say(f"attempt {last.number} was lost with its supervisor")
            cause = "its supervisor died"
            if self._before is not None and self._before.job:
                cause = f"its supervisor died, or the host that it was on: {self._before.host}"
            lost = Outcome(kind="lost", code=EngineError.exit_code, cause=cause)
            self.note_end(lost, why=why, at_s=self._last_seen_at_s(last))

    def _last_seen_at_s(self, attempt: Attempt) -> float:
        """When its GPUs were last looked at, now where nobody did: it may have been lost long before that is noted."""
        folder = runs.key(self.id, f"system/attempt-{attempt.number}")
        seen_at_s = [attempt.started_at_s]
        for name in self.store.children(folder):
            with contextlib.suppress(StoreError):  # A line of another version.
                points = metrics.decode(self.store.tail(f"{folder}/{name}", offset=0))
                seen_at_s += [point.time_s for point in points]
        return min(max(seen_at_s), time.time()) if len(seen_at_s) > 1 else time.time()

    def outcome(self) -> Outcome | None:
        """How the last attempt ended, perhaps under an earlier supervisor; None where it did not, or was lost."""
        attempts = self.load().attempts
        if not attempts or attempts[-1].outcome in ("", "lost"):
            return None
        last = attempts[-1]
        return Outcome(kind=last.outcome, code=last.exit_code or 0, cause=last.cause)

    def note_ranks(self, world_size: int) -> None:
        """Write down with how many ranks the last attempt ended."""
        *before, last = self.load().attempts
        self.change(attempts=(*before, msgspec.structs.replace(last, world_size=world_size)))

    def note_steps_lost(self) -> None:
        """Write down how many steps the last attempt did again, where its metrics tell. Safe to repeat."""
        attempts = self.load().attempts
        if len(attempts) < 2:
            return
        points = metrics.decode(self.store.tail(runs.metrics_key(self.id), offset=0))
        lost = metrics.steps_again(points, since_s=attempts[-1].started_at_s)
        before = msgspec.structs.replace(attempts[-2], steps_lost=lost)
        self.change(attempts=(*attempts[:-2], before, attempts[-1]))

    def warn(self, sentences: Iterable[str]) -> None:
        """Add what whoever asked for the run should know of it; what was said before is not said again."""
        run = self.load()
        new = tuple(each for each in dict.fromkeys(sentences) if each not in run.warnings)
        if new:
            self.change(warnings=(*run.warnings, *new))

    def keep_reservation(self, reservation: Reservation) -> None:
        """Keep where the attempt runs: a supervisor that takes over reads it."""
        text = json.dumps(reservation.to_json(), sort_keys=True)
        self.store.write(runs.key(self.id, "reservation.json"), text.encode())

    def reservation(self) -> Reservation | None:
        """Where the last attempt runs or ran; None before the first."""
        try:
            text = self.store.read(runs.key(self.id, "reservation.json"))
        except NotFound:
            return None
        return Reservation.from_json(json.loads(text))

    def has_results(self) -> bool:
        """Whether ending the run now could lose something: it trained, and what it wrote is not sealed or published."""
        run = self.load()
        return bool(run.attempts) and not run.state.ended

    def is_sealed(self) -> bool:
        """Whether all that the ranks wrote is in the store for good."""
        try:
            self.store.read(runs.key(self.id, "outputs.json"))
        except NotFound:
            return False
        return True

    def unseal(self) -> None:
        """Take for no outputs of the run what was sealed by somebody who then did not end it: it goes on."""
        if self.is_sealed():
            self.store.delete(runs.key(self.id, "outputs.json"))

    def drop_mirror(self) -> None:
        """Once everything is sealed; until then what was synced is all there is."""
        if self.is_sealed():
            for key in self.store.keys(runs.key(self.id, "live/")):
                self.store.delete(key)

    def leave_for_later(self, error: PushtrainError) -> None:
        """A passing fault (a full disk, a store that does not answer) does not end the run: `resume` goes on."""
        logger.error("%s is left as it is: %s", self.id, error)
        tip = f"{error.tip or 'mend that'}; then: pushtrain resume {self.id}"
        with contextlib.suppress(StoreError):
            self.change(reason=str(error), tip=tip)


def _is_earlier(start: str, other: str) -> bool:
    """Whether `JOB.NUMBER` is an earlier start of the same job."""
    (job, _, number), (other_job, _, other_number) = start.rpartition("."), other.rpartition(".")
    return bool(job) and job == other_job and int(number) < int(other_number)
