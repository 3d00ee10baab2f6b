"""How many -> ports of this host that are free on every address, and stay so for this run until it ends."""

from __future__ import annotations

import contextlib
import random
import socket

# Below what the kernel gives to those who ask for any port (ip_local_port_range begins at 32768).
FIRST, LAST = 20_000, 32_000


class Ports:
    """Holds the ports it chose: bound and never listened on, which hinders nobody who sets SO_REUSEADDR.

    All servers of MPI, gRPC and torch set it; another run that looks for a free port does not, so it finds them taken.
    """

    def __init__(self) -> None:
        self._held: list[socket.socket] = []

    def choose(self, count: int) -> list[int]:
        """So many ports; those of an earlier choice are given up. Raises OSError where there are too few."""
        self.close()
        for port in random.sample(range(FIRST, LAST), LAST - FIRST):
            if len(self._held) == count:
                break
            with contextlib.suppress(OSError):
                self._held.append(_hold(port))
        if len(self._held) < count:
            raise OSError(f"there are no {count} free ports between {FIRST} and {LAST}")
        return [held.getsockname()[1] for held in self._held]

    def close(self) -> None:
        """Give them up. Safe to repeat."""
        for held in self._held:
            held.close()
        self._held = []


def _hold(port: int) -> socket.socket:
    """The option is set after the port is ours alone: two that look at once never get the same one."""
    held = socket.socket()
    try:
        held.bind(("0.0.0.0", port))  # noqa: S104  # nobody is listened to
    except OSError:
        held.close()
        raise
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    return held
