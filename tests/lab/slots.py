"""Labs of this machine -> a number for each: its addresses, its Docker data and its names."""

from __future__ import annotations

import fcntl
from pathlib import Path
from typing import IO

from tests.lab.namespaces import LabError

SLOTS = 10
_LOCKS = Path("/run/lock/pushtrain-tests")


def free_slot() -> tuple[int, IO[str]]:
    """The lowest free number, and its lock: free again when the last process that inherited it has ended."""
    _LOCKS.mkdir(parents=True, exist_ok=True)
    for slot in range(SLOTS):
        lock = (_LOCKS / f"lab-{slot}.lock").open("w")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
            continue
        return slot, lock
    raise LabError(f"all {SLOTS} labs are in use")
