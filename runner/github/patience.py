"""How long a call may wait for GitHub in all -> pauses, or the end of waiting."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

_FIRST_PAUSE_S = 1.0
_LONGEST_PAUSE_S = 60.0


class Clock(Protocol):
    """What the module `time` has; another one lets a test wait for hours."""

    def time(self) -> float:
        """Returns seconds since 1970."""

    def monotonic(self) -> float:
        """Returns seconds that never go back."""

    def sleep(self, seconds: float, /) -> None:
        """Waits."""


class OutOfPatience(Exception):
    """The next pause would end after the call's limit; `wait_s` is how long it would be, `reason` what it is for."""

    def __init__(self, wait_s: float, reason: str) -> None:
        super().__init__(reason)
        self.wait_s = wait_s
        self.reason = reason


class Patience:
    """The waiting of one connection: of one thread, one call at a time; a call within a call has the outer's limit."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self._deadline_s: float | None = None
        self._away_until_s = 0.0
        self._away_reason = ""

    @contextmanager
    def call(self, limit_s: float) -> Iterator[None]:
        """Within the block, no pause ends later than `limit_s` from now."""
        if self._deadline_s is not None:
            yield
            return
        self._deadline_s = self.clock.monotonic() + limit_s
        try:
            yield
        finally:
            self._deadline_s = None

    @property
    def left_s(self) -> float:
        """Seconds until the limit of the call that goes on."""
        return (self._deadline_s or 0.0) - self.clock.monotonic()

    def allow(self, wait_s: float, reason: str) -> None:
        """Raises OutOfPatience where a pause of that length would be too long."""
        if wait_s > self.left_s:
            raise OutOfPatience(wait_s, reason)

    def pause(self, wait_s: float, reason: str = "it has a fault") -> None:
        """Waits, or raises OutOfPatience at once where that would be too long."""
        self.allow(wait_s, reason)
        self.clock.sleep(wait_s)

    def keep_away(self, wait_s: float, reason: str) -> None:
        """Remembers that GitHub wants no request from us before then: those who ask all the same may be shut out."""
        self._away_until_s = self.clock.monotonic() + wait_s
        self._away_reason = reason

    def heed(self) -> None:
        """Pauses until GitHub wants requests again; see `pause`."""
        wait_s = self._away_until_s - self.clock.monotonic()
        if wait_s > 0:
            self.pause(wait_s, self._away_reason)


def back_off_s(failures: int) -> float:
    """Returns the pause after that many failures in a row (1, 2, 4 … 60 seconds)."""
    return float(min(_FIRST_PAUSE_S * 2 ** min(max(failures - 1, 0), 10), _LONGEST_PAUSE_S))
