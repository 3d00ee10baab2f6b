"""A path of a lock -> one process at a time, those that wait told so."""

from __future__ import annotations

import contextlib
import fcntl
from collections.abc import Iterator
from pathlib import Path

from runner.environment.stream import Log


@contextlib.contextmanager
def alone(path: Path, log: Log, *, making: str) -> Iterator[None]:
    """Only one process at a time within the block; the kernel frees the lock of one that was killed. Blocks."""
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            log(f"another run makes the same {making}: waiting for it")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
