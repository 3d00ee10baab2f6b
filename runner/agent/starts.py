"""Starts of machines that failed -> when each may be tried again; on disk, so that a head that boots knows it too."""

from __future__ import annotations

import contextlib
import logging
import time
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec

from runner import decoding

logger = logging.getLogger(__name__)

MOST_PAUSE_S = 3600.0
_FILE = "starts.json"


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
    """By the host's name. The caller holds a lock.

    `spare` is where it is kept while the disk is full: a folder in memory, which other processes see too.
    """

    path: Path
    failed: dict[str, Failure]
    spare: Path | None = None

    @classmethod
    def load(cls, folder: Path, *, spare: Path | None = None) -> Starts:
        """What is noted in the folder; nothing where nothing is, or what is there cannot be read."""
        places = [place / _FILE for place in (spare, folder) if place is not None]
        found = (_read(path) for path in places)
        failed = next((each for each in found if each is not None), {})
        return cls(path=folder / _FILE, failed=failed, spare=spare)

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
        spare = self.spare / _FILE if self.spare is not None else None
        try:
            _write(self.path, self.failed)
        except OSError as error:
            logger.warning("failed starts cannot be noted in %s: %s", self.path, error)
        else:
            if spare is not None:
                spare.unlink(missing_ok=True)
            return
        with contextlib.suppress(OSError):
            if spare is not None:
                _write(spare, self.failed)


def _read(path: Path) -> dict[str, Failure] | None:
    try:
        return decoding.from_json(path.read_bytes(), dict[str, Failure])
    except (FileNotFoundError, msgspec.DecodeError):
        return None


def _write(path: Path, failed: dict[str, Failure]) -> None:
    part = path.with_suffix(".part")
    part.write_bytes(msgspec.json.encode(failed))
    part.rename(path)
