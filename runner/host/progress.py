"""Bytes as they come -> what a host tells of it, every two seconds: how much of what, and of how much."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

EVERY_S = 2.0


class Progress:
    """Counts what is brought of one thing, in the thread that brings it. `total` is None where nobody knows it."""

    def __init__(
        self,
        what: str,
        tell: Callable[[dict[str, Any]], None],
        *,
        total: int | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._what, self._tell, self._total, self._clock = what, tell, total, clock
        self._bytes = 0
        self._told_s = clock()

    def add(self, size_bytes: int) -> None:
        """So much more came."""
        self.note(self._bytes + size_bytes, self._total)

    def wait(self, why: str) -> None:
        """Nothing comes for now, and why; empty where it comes again. Told at once: whoever looks wonders."""
        self._tell({"what": self._what, "bytes": self._bytes, "total": self._total, "waits": why})

    def note(self, size_bytes: int, total_bytes: int | None) -> None:
        """So much came until now. What takes less than two seconds says nothing."""
        self._bytes, self._total = size_bytes, total_bytes
        if self._clock() - self._told_s >= EVERY_S:
            self._told_s = self._clock()
            self._tell({"what": self._what, "bytes": size_bytes, "total": total_bytes})
