"""A wish that the run end: a signal to its supervisor, or a `cancel` in its folder."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from typing import TYPE_CHECKING

from runner import runs
from runner.errors import Cancelled, RunNotFound, StoreError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from runner.runs import Supervisor
    from runner.store import Store

POLL_S = 0.3
LOOK_EVERY_S = 3.0


class Watch:
    """Heard from the main thread's signal handlers; `how` is None, then `stop`, then `kill`.

    `me` is the supervisor that watches: when another one has taken the run over, it kills what it still runs.
    """

    def __init__(self, store: Store, run_id: str, *, me: Supervisor) -> None:
        self._store, self._run_id, self._me = store, run_id, me
        self.signalled = False
        self.taken_over = ""
        self._look_at_s = 0.0
        self._how: str | None = None
        self._why = ""
        self._breakable = False
        self._done = threading.Event()

    @property
    def how(self) -> str | None:
        """None, `stop` (SIGTERM and grace) or `kill`."""
        return self._how

    @property
    def why(self) -> str:
        """The reason for the run to end, as whoever asked gave it; `cancelled` where none is known."""
        return self._why or "cancelled"

    def __enter__(self) -> Watch:
        signal.signal(signal.SIGTERM, self._on_signal)
        signal.signal(signal.SIGINT, self._on_signal)
        signal.signal(signal.SIGUSR1, self._on_request)
        with contextlib.suppress(StoreError):
            self._how = self._asked()
        self._thread = threading.Thread(target=self._poll, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    @contextlib.contextmanager
    def breaking(self) -> Iterator[None]:
        """Within this, a wish to end raises Cancelled in the main thread, wherever it blocks."""
        self._breakable = True
        try:
            self._break()
            yield
        finally:
            self._breakable = False

    def _on_signal(self, *_: object) -> None:
        self.signalled = True
        self._how = "stop" if self._how is None else "kill"
        self._break()

    def _on_request(self, *_: object) -> None:
        self._break()

    def _break(self) -> None:
        if self._breakable and self._how is not None:
            self._breakable = False
            raise Cancelled(self.why)

    def _poll(self) -> None:
        while not self._done.wait(POLL_S):
            try:
                self._look()
                how = "kill" if self.taken_over else self._asked()
            except StoreError:
                continue  # It is asked again in a moment.
            if how is not None and how != self._how and self._how != "kill":
                self._how = how
                os.kill(os.getpid(), signal.SIGUSR1)

    def _look(self) -> None:
        """See now and then whether the run is still this supervisor's: one that was cut off may be the last to know."""
        if time.monotonic() < self._look_at_s:
            return
        before, self._look_at_s = self._look_at_s, time.monotonic() + LOOK_EVERY_S
        with contextlib.suppress(StoreError, RunNotFound):
            owner = runs.load(self._store, self._run_id).supervisor
            if before and owner is not None and owner != self._me:
                self.taken_over = f"a supervisor on {owner.host} has taken {self._run_id} over"

    def _asked(self) -> str | None:
        """Read here and kept: a signal's handler may break into a call of the store, and must not make one."""
        how = runs.cancel_requested(self._store, self._run_id)
        if how is not None and not self._why:
            self._why = runs.cancel_reason(self._store, self._run_id)
        return how
