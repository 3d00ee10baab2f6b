"""Tests that take a part of this machine for themselves -> a number for each, free again when they end."""

from __future__ import annotations

import fcntl
from pathlib import Path
from typing import IO

SLOTS = 10
# A slot is also a bridge and its addresses, so it is taken for the whole machine, whatever the cache.
_LOCKS = Path("/run/lock/pushtrain-tests")


def lock_of(locks: str, slot: int) -> Path:
    """The file that is locked while a number is taken."""
    return _LOCKS / locks.format(slot)


class NoSlot(RuntimeError):
    """All numbers are taken."""


def free_slot(locks: str) -> tuple[int, IO[str]]:
    """The lowest free number, and its lock: free again when the last process that inherited it has ended.

    `locks` names the lock of a number, such as `lab-{}.lock`. Raises NoSlot.
    """
    _LOCKS.mkdir(parents=True, exist_ok=True)
    for slot in range(SLOTS):
        lock = lock_of(locks, slot).open("w")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
            continue
        return slot, lock
    raise NoSlot(f"all {SLOTS} of {_LOCKS}/{locks.format('N')} are in use")
