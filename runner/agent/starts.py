"""Starts of machines that failed -> when each may be tried again; on disk, so that a head that boots knows it too."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec

from runner import decoding

MOST_PAUSE_S = 3600.0


@dataclass(frozen=True, kw_only=True)
class Failure:
    """Failures of a host since its last good start: how many, the last reason, and when to try again (since 1970).

    `held`: since the last one nobody could have it started.
    """

    count: int
    reason: str
    again_s: float
    held: bool = True


@dataclass(kw_only=True)
class Starts:
    """By the host's name. The caller holds a lock."""

    path: Path
    failed: dict[str, Failure]

    @classmethod
    def load(cls, folder: Path) -> Starts:
        """What is noted in the folder; nothing where nothing is, or what is there cannot be read."""
        path = folder / "starts.json"
        try:
            failed = decoding.from_json(path.read_bytes(), dict[str, Failure])
        except (FileNotFoundError, msgspec.DecodeError):
            failed = {}
        return cls(path=path, failed=failed)

    def fail(self, name: str, reason: str, *, first_pause_s: float) -> Failure:
        """Note one more, and return it: each pause is twice as long as the one before."""
        earlier = self.failed.get(name)
        count = earlier.count + 1 if earlier else 1
        pause_s = min(first_pause_s * 2 ** (count - 1), MOST_PAUSE_S)
        self.failed[name] = Failure(count=count, reason=reason, again_s=time.time() + pause_s)
        self._save()
        return self.failed[name]

    def let_go(self, name: str) -> None:
        """It may be started again. Safe to repeat."""
        if (failure := self.failed.get(name)) and failure.held:
            self.failed[name] = replace(failure, held=False)
            self._save()

    def forget(self, name: str) -> None:
        """It started. Safe to repeat."""
        if self.failed.pop(name, None):
            self._save()

    def _save(self) -> None:
        part = self.path.with_suffix(".part")
        part.write_bytes(msgspec.json.encode(self.failed))
        part.rename(self.path)
