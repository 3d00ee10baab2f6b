"""A rank that raised -> it ends, whatever its libraries would wait for.

An MPI program waits in MPI_Finalize for ranks that wait for it, and JAX for minutes at its last barrier. `python -m
mpi4py` ends such a rank too, and all others at once. Not seen: `sys.exit` in one rank alone, since what it raises may
be caught.
"""

from __future__ import annotations

import atexit
import os
import sys
import time
from _thread import start_new_thread

TYPE_CHECKING = False  # As everywhere in this folder: `typing` is imported by type checkers alone.
if TYPE_CHECKING:
    from typing import Any

WAIT = ("mpi4py.MPI", "jax._src.distributed")
"""Modules whose end waits for the other ranks."""

EXIT_WITHIN_S = 10.0
"""So long other libraries may take to end what they do."""

_failed: list[bool] = []


def watch() -> None:
    """From now on. To be called before anything else registers what is to be done at the end: ours comes last."""
    before = sys.excepthook

    def raised(kind: Any, value: Any, trace: Any) -> None:
        before(kind, value, trace)
        if _waits():
            _failed.append(True)
            start_new_thread(_end_later, ())

    sys.excepthook = raised
    atexit.register(_end)


def _waits() -> bool:
    return any(name in sys.modules for name in WAIT)


def _end_later() -> None:
    time.sleep(EXIT_WITHIN_S)
    _end()


def _end() -> None:
    if _failed:
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except Exception:
                pass
        os._exit(1)
