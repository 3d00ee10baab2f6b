"""A fleet, looked at again and again by a thread -> what was seen last, and since when nothing is seen any more.

Commands of Slurm wait for a head that is away; whoever draws a screen does not.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Self

from runner.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Callable

    from runner.fleet.rows import Place

# An answer may be so late without a word about it.
LATE_S = 3.0


@dataclass(frozen=True, kw_only=True)
class Look:
    """What was seen at that moment; `error` says why nothing was seen since, `note` what is not seen at all."""

    places: tuple[Place, ...] = ()
    note: str = ""
    error: str = ""
    at_s: float

    def told(self, *, now_s: float, every_s: float) -> str:
        """What a reader has to know of it: that it is old, and why."""
        late_s = now_s - self.at_s
        if self.error:
            return "; ".join(filter(None, (f"the fleet does not answer: {self.error}", self.note)))
        late = f"the fleet has not answered for {late_s:.0f} s" if late_s > every_s + LATE_S else ""
        return "; ".join(filter(None, (late, self.note)))


class Looks:
    """Within a block, calls `look` every `every_s` seconds from a thread; `latest` is None until it answers.

    `look` returns places and a note, and may raise EngineError: what was seen before is kept then.
    """

    def __init__(self, look: Callable[[], tuple[tuple[Place, ...], str]], *, every_s: float) -> None:
        self._look, self._every_s = look, every_s
        self._new, self._ended = threading.Event(), threading.Event()
        self._fault: Exception | None = None
        self.latest: Look | None = None

    def __enter__(self) -> Self:
        threading.Thread(target=self._look_on, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        """A look that goes on is not waited for; it is the last."""
        self._ended.set()

    def wait(self, within_s: float) -> None:
        """Wait for a new look, no longer than that. Raises what a look ended with that is no EngineError."""
        self._new.wait(within_s)
        self._new.clear()
        if self._fault is not None:
            raise self._fault

    def _look_on(self) -> None:
        pause_s = 0.0
        while not self._ended.wait(pause_s):
            began_s = time.monotonic()
            try:
                self.latest = once(self._look, before=self.latest)
            except Exception as error:  # noqa: BLE001  # a thread's outermost: raised again by whoever waits
                self._fault = error
                return
            finally:
                self._new.set()
            pause_s = max(0.0, began_s + self._every_s - time.monotonic())


def once(look: Callable[[], tuple[tuple[Place, ...], str]], *, before: Look | None = None) -> Look:
    """Look now; where that fails, what was seen before, with the reason."""
    at_s = time.time()
    try:
        places, note = look()
    except EngineError as error:
        return replace(before or Look(at_s=at_s), error=str(error))
    return Look(places=places, note=note, at_s=at_s)
