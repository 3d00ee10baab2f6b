"""A rank's output -> its log stream in the store: secrets masked, whole lines, at most a moment late."""

from __future__ import annotations

import re
import threading
import time
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from runner.store import Store

LINE_LIMIT_BYTES = 64 * 1024
PARTIAL_LINE_S = 1.0


class Mask:
    """Replaces every secret by `***`, also its lines where it has several."""

    def __init__(self, secrets: Iterable[str]) -> None:
        parts = {part for secret in secrets for part in (secret, *secret.splitlines()) if len(part) >= 3}
        self._parts = [part.encode() for part in sorted(parts, key=len, reverse=True)]
        self._pattern = re.compile(b"|".join(map(re.escape, self._parts))) if parts else None

    def __call__(self, data: bytes) -> bytes:
        """`data` without secrets."""
        return self._pattern.sub(b"***", data) if self._pattern else data

    def begun(self, data: bytes) -> int:
        """How many bytes at the end of `data` may be the beginning of a secret whose rest is still to come."""
        return next(
            (
                length
                for length in range(min(len(data), max(map(len, self._parts), default=1) - 1), 0, -1)
                if any(part.startswith(data[-length:]) for part in self._parts)
            ),
            0,
        )


class OutputStream:
    """Collects one rank's output and appends it to `key`; `flush` is called from one thread, `feed` from another.

    `on_first` is called by `feed`, once: when the first whole line is ready to be flushed.
    """

    def __init__(
        self,
        store: Store,
        key: str,
        mask: Mask,
        *,
        offset: int = 0,
        on_first: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store, self._key, self._mask, self._clock = store, key, mask, clock
        self._on_first, self._is_silent = on_first, True
        self._lock = threading.Lock()
        self._pending = bytearray()
        self._ready = bytearray()
        self._offset = offset
        self._waiting_since_s = 0.0
        self.last_lines: deque[str] = deque(maxlen=30)
        self.last_output_s = self._clock()

    def feed(self, data: bytes) -> None:
        """Take what the rank wrote."""
        with self._lock:
            self.last_output_s = self._clock()
            if not self._pending:
                self._waiting_since_s = self.last_output_s
            self._pending += data
            # A progress bar ends its line with a carriage return only.
            end = max(self._pending.rfind(b"\n"), self._pending.rfind(b"\r")) + 1
            if end == 0 and len(self._pending) > LINE_LIMIT_BYTES:
                end = len(self._pending) - self._mask.begun(bytes(self._pending[-LINE_LIMIT_BYTES:]))
            if end:
                self._take(end)
            is_first = end > 0 and self._is_silent
            self._is_silent = self._is_silent and end == 0
        if is_first:
            self._on_first()

    def flush(self, *, last: bool = False) -> None:
        """Append what is ready; a line without an end waits a second for it. Safe to repeat after a StoreError."""
        with self._lock:
            stale = self._pending and self._clock() - self._waiting_since_s > PARTIAL_LINE_S
            if last or stale:
                begun = 0 if last else self._mask.begun(bytes(self._pending))
                self._take(len(self._pending) - begun)
            data = bytes(self._ready)
        if not data:
            return
        self._store.append(self._key, data, offset=self._offset)
        with self._lock:
            del self._ready[: len(data)]
            self._offset += len(data)

    def _take(self, end: int) -> None:
        whole = self._mask(bytes(self._pending[:end]))
        del self._pending[:end]
        self._waiting_since_s = self._clock()
        self._ready += whole
        self.last_lines.extend(whole.decode(errors="replace").splitlines())
