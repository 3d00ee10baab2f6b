"""A clock on which pauses take no time: those who wait find themselves later."""

from __future__ import annotations

import time
from collections.abc import Callable


class SkippingClock:
    """Real time, and all that was slept; `pauses` are the seconds of each. `then` happens while somebody sleeps."""

    def __init__(self, then: Callable[[], object] = lambda: None) -> None:
        self.pauses: list[float] = []
        self.then = then
        self._skipped_s = 0.0

    def time(self) -> float:
        return time.time() + self._skipped_s

    def monotonic(self) -> float:
        return time.monotonic() + self._skipped_s

    def sleep(self, seconds: float, /) -> None:
        self.skip(seconds)
        self.pauses.append(round(seconds, 1))
        self.then()

    def skip(self, seconds: float) -> None:
        """Time goes by."""
        self._skipped_s += seconds
