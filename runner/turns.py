"""Runs of one group -> one after the other: each holds a number, and waits for those before it or replaces them.

Numbers are given out by conditional writes, each the next after the highest that is there: of two runs that come at the
same moment one is first, and who holds a number can see everybody before it. The highest is never taken away, so that
numbers only grow.
"""

from __future__ import annotations

import hashlib
import logging
import socket
import time
from typing import TYPE_CHECKING

import msgspec

from runner import decoding, runs
from runner.errors import Conflict, Corrupt, NotFound, RunNotFound
from runner.lock import held, is_held

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from runner.runs import Run
    from runner.store import Store

logger = logging.getLogger(__name__)

_SHOWN = 3


class Ticket(msgspec.Struct, frozen=True, kw_only=True):
    """What a run says of itself when it joins a group. `branch` is that of a fork where it is `isolated`."""

    run_id: str
    supersede: bool = False
    isolated: bool = False
    branch: str | None = None


def replaces(newer: Ticket, older: Ticket) -> bool:
    """Whether a run cancels an older one of its group; a fork's run only those of the fork's own branch."""
    if not newer.supersede or newer.run_id <= older.run_id:
        return False
    return not newer.isolated or (older.isolated and older.branch == newer.branch)


class Turn:
    """The place of one run in its group. `home` is this machine's, to see whether supervisors on it live.

    `lives` says it of a run whose supervisor a batch system starts again wherever it likes, such as one that was
    preempted; by default such a run is taken to live.
    """

    def __init__(
        self,
        store: Store,
        ticket: Ticket,
        *,
        group: str,
        home: Path,
        lives: Callable[[Run], bool] = lambda _: True,
    ) -> None:
        self._store, self._mine, self._group, self._home = store, ticket, group, home
        self._lives = lives
        self._number: int | None = None
        self._gone_since_s: dict[str, float] = {}

    def enter(self) -> str | None:
        """Take a number, and ask those that this run replaces to end. Safe to repeat: the number stays.

        Returns the id of the newer run that replaces this one, None where none does.
        """
        while self._number is None:
            there = dict(self._tickets())
            self._number = next((n for n, each in there.items() if each.run_id == self._mine.run_id), None)
            if self._number is None:
                self._number = self._take(max(there, default=0) + 1)
        for number, other in self._tickets():
            if replaces(other, self._mine):
                return other.run_id
            if number < self._number and replaces(self._mine, other) and self._waits_for(number, other):
                runs.request_cancel(
                    self._store, other.run_id, how="stop", why=f"superseded by {self._mine.run_id}"
                )
        return None

    def ahead(self) -> tuple[Run, ...]:
        """The runs before this one that have not ended, in their order: it is this run's turn when there are none."""
        assert self._number is not None
        before = [(n, each) for n, each in self._tickets() if n < self._number]
        return tuple(run for n, each in before if (run := self._waits_for(n, each)) is not None)

    def reason(self, ahead: Sequence[Run]) -> str:
        """What this run waits for, in words."""
        names = [run.id for run in ahead[:_SHOWN]]
        more = f" and {len(ahead) - _SHOWN} more" if len(ahead) > _SHOWN else ""
        text = f"{_nth(len(ahead) + 1)} in group {_as_written(self._group)}, behind {', '.join(names)}{more}"
        gone = next((run for run in ahead if self._is_unattended(run)), None)
        if gone is None:
            return text
        return f"{text}; {gone.id} has no supervisor: pushtrain resume {gone.id}"

    def pass_over(self, ahead: Sequence[Run], *, after_s: float, end: Callable[[Run], None]) -> None:
        """Go past runs whose supervisors have been gone for `after_s`: `end` ends what is left of one on this machine.

        One that is resumed later joins the group anew, at its end. Nobody can become its supervisor meanwhile.
        """
        now_s = time.monotonic()
        gone = [run for run in ahead if self._is_unattended(run)]
        self._gone_since_s = {run.id: self._gone_since_s.get(run.id, now_s) for run in gone}
        for run in gone:
            if now_s - self._gone_since_s[run.id] < after_s:
                continue
            with held(_supervisor_lock(run, self._home)) as mine:
                if mine:
                    logger.warning("%s has no supervisor: its place in the group is taken", run.id)
                    end(run)
                    self._drop(run.id)

    def _is_unattended(self, run: Run) -> bool:
        """Whether the run's supervisor was one of this machine and is gone. One on another machine is taken to live."""
        if (
            run.supervisor is None or run.supervisor.job
        ):  # Put back into the queue it has no process, and waits all the same.
            return not self._lives(run)
        on_this = run.supervisor.host == socket.gethostname()
        return on_this and not is_held(_supervisor_lock(run, self._home))

    def _take(self, number: int) -> int | None:
        try:
            self._store.create(self._key(number), msgspec.json.encode(self._mine))
        except Conflict:
            return None  # Somebody else came at the same moment.
        return number

    def _waits_for(self, number: int, other: Ticket) -> Run | None:
        """The run of an earlier number, None where it ended; its number is then of no use any more."""
        try:
            run = runs.load(self._store, other.run_id)
        except (
            RunNotFound,
            Corrupt,
        ) as error:  # removed by somebody, or damaged: no supervisor can move it on
            logger.warning("%s is passed over: %s", other.run_id, error)
            return None
        if not run.state.ended:
            return run
        self._store.delete(self._key(number))
        return None

    def _tickets(self) -> Iterator[tuple[int, Ticket]]:
        """All that are there, by number."""
        for name in self._store.children(_folder(self._group)):
            try:
                ticket = decoding.from_json(self._store.read(self._key(int(name))), Ticket)
            except NotFound:
                continue  # It ended, and somebody cleared it away.
            yield int(name), ticket

    def _drop(self, run_id: str) -> None:
        for number, ticket in self._tickets():
            if ticket.run_id == run_id:
                self._store.delete(self._key(number))

    def _key(self, number: int) -> str:
        return f"{_folder(self._group)}/{number:08d}"


def _supervisor_lock(run: Run, home: Path) -> Path:
    return home / "scratch" / run.id / "supervisor.lock"


def _folder(group: str) -> str:
    return f"groups/{hashlib.sha256(group.encode()).hexdigest()[:20]}"


def _as_written(group: str) -> str:
    """The group as train.yml has it, without the repository and the training that it is of."""
    return group.split(": ", 2)[-1]


def _nth(number: int) -> str:
    ending = {1: "st", 2: "nd", 3: "rd"}.get(number % 10 if number % 100 not in (11, 12, 13) else 0, "th")
    return f"{number}{ending}"
