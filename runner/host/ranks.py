"""What every kind of rank has in common: how it ended, and the handle by which a host holds it."""

from __future__ import annotations

import signal
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

    from runner.launch import Process


@dataclass(frozen=True, kw_only=True)
class Exit:
    """How a rank ended: its exit code (128 + n for signal n, as a shell has it), the signal's name, a known cause."""

    code: int
    signal: str = ""
    cause: str = ""

    @classmethod
    def of(cls, returncode: int, *, cause: str = "") -> Exit:
        """From Python's convention (negative for a signal) or a shell's (128 + n)."""
        number = -returncode if returncode < 0 else returncode - 128
        if returncode < 0 or number in (signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV, signal.SIGABRT):
            return cls(code=128 + number, signal=signal.Signals(number).name, cause=cause)
        return cls(code=returncode, cause=cause)


class Rank(Protocol):
    """A started rank."""

    process: Process

    def wait(self) -> Exit:
        """Block until the rank and all of its output ended."""

    def signal(self, signum: int) -> None:
        """Signal the rank and all that it started. Safe when it ended already."""

    def close(self) -> None:
        """Leave nothing of it behind: stray children, the container. Safe to repeat."""


class Ranks(Protocol):
    """Starts the ranks of one node."""

    def join(self) -> None:
        """Make the node known to the others of its gang, before any rank starts. Raises EngineError."""

    def start(self, process: Process, sink: Callable[[bytes], None]) -> Rank:
        """Start one rank whose output goes to `sink`. Raises EngineError."""

    def close(self) -> None:
        """Remove what the ranks of the node shared, and what they left. Safe to repeat."""
