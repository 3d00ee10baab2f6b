"""Processes that a rank left behind come to the host process, which ends them: also those that shed every mark."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import time
from pathlib import Path

PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h, see prctl(2)
WITHIN_S = 5.0

_own: set[int] = set()
_adopts: list[bool] = []


def adopt() -> None:
    """From now on orphaned descendants become children of this process. Safe to repeat."""
    _adopts.append(True)
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)


def spare(pid: int) -> None:
    """Not this child: it is one of the host's own, such as the leash."""
    _own.add(pid)


def end() -> None:
    """Kill every child but the spared ones, and what comes to us by that, until none is left.

    To be called when no rank runs any more. Does nothing in a process that adopts none: its children are its own. Gives
    up after some seconds on what the kernel does not let go.
    """
    deadline_s = time.monotonic() + WITHIN_S
    while _adopts and (left := _children() - _own) and time.monotonic() < deadline_s:
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)
        time.sleep(0.005)


def _children() -> set[int]:
    found = set()
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            parent = (entry / "stat").read_text().rpartition(")")[2].split()[1]
        except (OSError, IndexError):
            continue  # It ended meanwhile.
        if int(parent) == os.getpid():
            found.add(int(entry.name))
    return found
