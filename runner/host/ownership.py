"""A Job -> whether the store is the one of its run, and whether what this host writes there is still wanted.

A host that is cut off from its supervisor alone goes on writing until its lease is over, and the run has gone on
elsewhere by then, or is sealed.
"""

from __future__ import annotations

import socket
import time
from typing import TYPE_CHECKING

import msgspec

from runner import decoding, runs
from runner.errors import Displaced, NotFound, StoreError
from runner.runs import ENDS, State
from runner.store.patience import patient

if TYPE_CHECKING:
    from collections.abc import Callable

    from runner.host.job import Job
    from runner.store import Store

# How a supervisor ends whose host does: no fault that passes, and the batch script of a fleet starts no other then.
NOT_THIS_STORE = 66
# Whoever sends many small files asks once for those of a moment.
ASKS_EVERY_S = 1.0
REACHED_WITHIN_S = 60.0
_SEALED = frozenset({State.COLLECTING, State.PUBLISHING, *ENDS})


class _Stand(msgspec.Struct):
    """What counts of run.json: hosts may be of an older version than the supervisor."""

    state: str
    attempts: tuple[msgspec.Raw, ...] = ()


def another_store(host: str, run_id: str, uri: str) -> NotFound:
    """The error of a host that sees another store than whoever asked for the run."""
    return NotFound(
        f"{host} does not reach the run's store: {run_id} is not in {uri} there",
        tip="PUSHTRAIN_STORE=s3://…, or a folder that is mounted on all hosts under that path",
    )


class Ownership:
    """Of one attempt on one host of a fleet; elsewhere supervisor and host process are on one machine, and all is well.

    May be used by several threads.
    """

    def __init__(self, job: Job, store: Store, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._job, self._store, self._clock = job, store, clock
        self._asked_at_s: float | None = None
        self._lost = ""

    def check_store(self) -> None:
        """Raise NotFound where this host sees another store than the supervisor, such as a folder of its own.

        Blocks for up to REACHED_WITHIN_S where the store does not answer, and raises StoreError then.
        """
        if not self._job.host_network:
            return
        try:
            self._look(patient(self._store, within_s=REACHED_WITHIN_S))
        except NotFound as error:
            raise another_store(socket.gethostname(), self._job.run_id, self._store.uri) from error
        except StoreError as error:
            raise type(error)(f"{socket.gethostname()}: {error}", tip=error.tip) from error

    def check(self) -> None:
        """Raise Displaced where a later attempt has begun or the run is being sealed, from then on; StoreError."""
        if not self._job.host_network:
            return
        now_s = self._clock()
        if not self._lost and (self._asked_at_s is None or now_s >= self._asked_at_s + ASKS_EVERY_S):
            stand = self._look(self._store)
            self._asked_at_s = now_s
            if len(stand.attempts) > self._job.attempt:
                self._lost = f"attempt {len(stand.attempts)} of {self._job.run_id} has begun"
            elif stand.state in _SEALED:
                self._lost = f"{self._job.run_id} is {stand.state}"
        if self._lost:
            raise Displaced(
                f"{self._lost}: what attempt {self._job.attempt} writes here is not kept any more"
            )

    def _look(self, store: Store) -> _Stand:
        return decoding.from_json(store.read(runs.key(self._job.run_id, "run.json")), _Stand)
