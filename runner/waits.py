"""A run that waits: for its turn in its group, and for free slots; said in its folder, and not for ever."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from runner import engines
from runner.engines.machine import LEASE_S
from runner.errors import Cancelled, TimedOut
from runner.runs import State
from runner.turns import Ticket, Turn

if TYPE_CHECKING:
    from pathlib import Path

    from runner.engines import Engine
    from runner.place import Reservation
    from runner.plan import Plan
    from runner.record import Record
    from runner.runs import Run

WAIT_S = 1.0
# For so many leases a run of the same group may be without a supervisor until it is passed over.
PASSED_OVER_AFTER_LEASES = 4


class Waiting:
    """What one supervisor waits for. `begin` starts the time that `timeout.queue` counts."""

    def __init__(self, plan: Plan, record: Record, engine: Engine, *, home: Path, store: str) -> None:
        self._plan, self._record, self._engine = plan, record, engine
        self._home, self._uri = home, store
        self._since_s: float | None = None

    def begin(self) -> None:
        """From now on time counts. Safe to repeat."""
        self._since_s = None

    def join_group(self) -> Turn | None:
        """The run's place in its group, None where it has none. Raises Cancelled where a newer run replaces it."""
        group = self._plan.group
        if group is None:
            return None
        ticket = Ticket(
            run_id=self._record.id,
            supersede=self._plan.supersede,
            isolated=self._plan.isolated,
            branch=self._plan.asked.branch,
        )
        turn = Turn(self._record.store, ticket, group=group, home=self._home, lives=self._lives)
        if newer := turn.enter():
            raise Cancelled(f"superseded by {newer}")
        return turn

    def turn(self, turn: Turn | None) -> None:
        """Block until no run of the group is before this one. Raises TimedOut after `timeout.queue`."""
        lease_s = float(os.environ.get("PUSHTRAIN_LEASE_S", LEASE_S))
        while turn is not None and (ahead := turn.ahead()):
            self._wait(turn.reason(ahead), until="its turn did not come")
            self._engine.give_way([run.id for run in ahead])
            turn.pass_over(ahead, after_s=lease_s * PASSED_OVER_AFTER_LEASES, end=self._end_other)

    def _lives(self, run: Run) -> bool:
        """Whether a run of this batch system has a job; one of another engine is taken to live."""
        return run.engine != self._engine.name or not self._engine.allocated or self._engine.lives(run)

    def _end_other(self, run: Run) -> None:
        """End what a run that nobody supervises left on this machine: it must not train beside this one."""
        engines.load(run.engine, home=self._home, store=self._uri).sweep(run.id)

    def slots(self) -> Reservation:
        """Block until all slots are ours. Raises NoCapacity when they never can be, and as `turn`."""
        gang = self._plan.gang
        wanted = gang.nodes * gang.gpus_per_node
        while (reservation := self._engine.reserve(gang, run_id=self._record.id)) is None:
            queued = self._engine.queued(self._record.id) or "too few are free"
            self._wait(f"waits for {wanted} GPU{'s' * (wanted > 1)}, {queued}", until="no free GPUs")
        return reservation

    def _wait(self, reason: str, *, until: str) -> None:
        """Wait a moment and say for what. Raises TimedOut after `timeout.queue`."""
        limit_s = self._plan.limits.queue_s
        self._since_s = self._since_s or time.monotonic()
        self._record.move(State.WAITING, reason=reason)
        if limit_s is not None and time.monotonic() - self._since_s > limit_s:
            raise TimedOut(
                f"timeout.queue: {until} within {limit_s:g} s", tip="pushtrain runs --state running"
            )
        time.sleep(WAIT_S)
