"""What every kind of rank has in common: how it ended, and the handle by which a host holds it."""

from __future__ import annotations

import signal
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from runner.launch import Process


# Signals that end programs: an exit code above 128 may also be a program's own.
_ENDS = frozenset(
    {
        signal.SIGKILL,
        signal.SIGTERM,
        signal.SIGSEGV,
        signal.SIGABRT,
        signal.SIGBUS,
        signal.SIGILL,
        signal.SIGFPE,
    }
)


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
        if returncode < 0 or number in _ENDS:
            return cls(code=128 + number, signal=signal.Signals(number).name, cause=cause)
        return cls(code=returncode, cause=cause)


class Rank(Protocol):
    """A started process of the node: a rank, or a launcher."""

    process: Process

    def wait(self) -> Exit:
        """Block until the rank and all of its output ended."""

    def signal(self, signum: int) -> None:
        """Signal the rank and all that it started. Safe when it ended already."""

    def close(self) -> None:
        """Leave nothing of it behind: stray children, the container. Safe to repeat."""


class Command(Protocol):
    """A command that a launcher on another node has run here, as it would by ssh."""

    def write(self, data: bytes) -> None:
        """Give it input."""

    def close_stdin(self) -> None:
        """Its input has ended. Safe to repeat."""

    def read_streams(self) -> Iterator[tuple[int, bytes]]:
        """What it prints, as (1 or 2, data), until it ended."""

    def wait(self) -> int:
        """Block until it ended; its exit code."""

    def kill(self) -> None:
        """End it and what it started, at once. Safe to repeat."""


class Ranks(Protocol):
    """Starts the processes of one node."""

    def join(self) -> None:
        """Make the node known to the others of its gang, before any rank starts. Raises EngineError."""

    def start_all(
        self, processes: Sequence[Process], sink_of: Callable[[Process], Callable[[bytes], None]]
    ) -> Sequence[Rank]:
        """Start those that no launcher starts, launchers last. If one fails, all are ended. Raises EngineError."""

    def command(self, text: str) -> Command:
        """Have a shell of this node run `text`. Raises EngineError."""

    def signal(self, pid: int, signum: int) -> None:
        """Signal a process group, by the id that this node's processes know it by. Safe when it ended already."""

    def kernel_kills(self) -> int:
        """How many processes the kernel ended for memory: on the node so far, or on the whole machine since `look`."""

    def look(self) -> None:
        """What was until now is not why a rank ends from now on. Called about once a second."""

    def stacks(self, ranks: Mapping[int, int | None]) -> dict[int, str]:
        """What each rank is doing now, for people to read: the ranks by the pid of a launched one, None of others."""

    def close(self) -> None:
        """Remove what the ranks of the node shared, and what they left. Safe to repeat."""
