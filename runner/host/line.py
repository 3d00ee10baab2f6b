"""The host's end of its line to the supervisor: commands in, events out, and a new supervisor may take it over.

The line is standard input and output at first. When it breaks, a supervisor that resumes the run connects to the
host's socket instead and is told everything that happened so far. Over the network nobody can: see `RemoteLine`.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
import time
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Protocol

from runner.host.outbox import Outbox

if TYPE_CHECKING:
    from collections.abc import Callable

Message = dict[str, Any]
SOCKET = "host.sock"
# What launchers of several nodes say to each other: in any amount, told by threads of its own, never to be lost.
FLOWING = frozenset({"call-out", "call-data", "call-eof"})
# What is soon said anew.
PASSING = frozenset({"beat", "progress"})
LAST_WORDS_S = 5.0
PULSE_S = 2.0


class Line(Protocol):
    """Calls `on_command(message)` for every command, `on_lost()` when the supervisor is gone."""

    @property
    def lost(self) -> bool:
        """Whether no supervisor is there."""

    def tell(self, event: Message, *, keep: bool = True) -> None:
        """Send an event; with `keep`, a supervisor that takes over later hears it too."""

    def forget(self) -> None:
        """What was told so far is of an attempt that is over: a supervisor that takes over must not hear it."""

    def close(self) -> None:
        """Let nobody take over any more. Safe to repeat."""

    def end(self) -> None:
        """Say what is left to say, and close the line: nobody is listened to any more."""


class RemoteLine:
    """A line that comes over the network, by a batch system's pipes: when it is cut, nobody ever takes it over.

    Both ends say that they live every two seconds. A supervisor that was not heard for `lease_s`, or whose pipe has
    ended, is lost.
    """

    def __init__(
        self,
        *,
        reader: IO[str],
        writer: IO[str],
        lease_s: float,
        on_command: Callable[[Message], None],
        on_lost: Callable[[], None],
    ) -> None:
        self._on_command, self._on_lost, self._lease_s = on_command, on_lost, lease_s
        self._outbox = Outbox(writer)
        self._heard_s = time.monotonic()
        self._lost = threading.Event()
        self._turn = threading.Lock()
        threading.Thread(target=self._read, args=(reader,), daemon=True).start()
        threading.Thread(target=self._pulse, daemon=True).start()

    @property
    def lost(self) -> bool:
        """Whether the supervisor was lost; it never comes back."""
        return self._lost.is_set()

    def tell(self, event: Message, *, keep: bool = True) -> None:  # noqa: ARG002  # nobody ever takes over
        """Send an event. Beats are left out where much waits to be said."""
        _put(self._outbox, event)

    def forget(self) -> None:
        """Nothing is remembered."""

    def close(self) -> None:
        """Nobody can take it over."""

    def end(self) -> None:
        """Say what is left to say."""
        self._outbox.close(timeout_s=0.0 if self.lost else LAST_WORDS_S)

    def _read(self, reader: IO[str]) -> None:
        with contextlib.suppress(OSError, ValueError):
            for text in reader:
                self._heard_s = time.monotonic()
                message = json.loads(text)
                if message["op"] != "beat" and not self.lost:
                    self._on_command(message)
        self._lose()

    def _pulse(self) -> None:
        """Of a thread of its own: a main loop that waits for the store or for Docker is alive all the same."""
        while not self._lost.wait(PULSE_S):
            self._outbox.put_if_swift({"event": "alive"})
            if time.monotonic() - self._heard_s > self._lease_s:
                self._lose()

    def _lose(self) -> None:
        with self._turn:
            if self.lost:
                return
            self._lost.set()
        self._outbox.abort()
        self._on_lost()


class AdoptableLine:
    """A line on one machine, that a supervisor which resumes the run takes over by a socket in `folder`."""

    def __init__(
        self,
        folder: Path,
        *,
        reader: IO[str],
        writer: IO[str],
        on_command: Callable[[Message], None],
        on_lost: Callable[[], None],
    ) -> None:
        self._on_command, self._on_lost = on_command, on_lost
        self._outbox: Outbox | None = Outbox(writer)
        self._history: list[Message] = []
        self._lock = threading.Lock()
        self._server = _listen(folder / SOCKET)
        threading.Thread(target=self._read, args=(reader, self._outbox), daemon=True).start()
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def lost(self) -> bool:
        """Whether no supervisor is there."""
        return self._outbox is None

    def tell(self, event: Message, *, keep: bool = True) -> None:
        """Send an event; with `keep`, a supervisor that takes over later hears it too."""
        with self._lock:
            outbox = self._outbox
            if keep:
                self._history.append(event)
                if outbox is not None:
                    outbox.put(event)
        if outbox is not None and not keep:
            _put(outbox, event)

    def forget(self) -> None:
        """What was told so far is of an attempt that is over: a supervisor that takes over must not hear it."""
        with self._lock:
            self._history.clear()

    def close(self) -> None:
        """Let nobody take over any more. Safe to repeat."""
        with contextlib.suppress(OSError):
            self._server.shutdown(
                socket.SHUT_RDWR
            )  # Closing alone would leave `_accept` waiting for one more.
        self._server.close()

    def end(self) -> None:
        """Say what is left to say."""
        self.close()
        if (outbox := self._outbox) is not None:
            outbox.close(timeout_s=LAST_WORDS_S)

    def _read(self, reader: IO[str], outbox: Outbox) -> None:
        with contextlib.suppress(OSError, ValueError):
            for text in reader:
                self._on_command(json.loads(text))
        with self._lock:
            gone = self._outbox is outbox
            if gone:
                self._outbox = None
        outbox.abort()
        if gone:
            self._on_lost()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._server.accept()
            except OSError:
                return  # Closed: the host is ending.
            # One object for both ways would not bear a thread that reads while another writes.
            reader = connection.makefile("r", encoding="utf-8")
            writer = connection.makefile("w", encoding="utf-8")
            connection.close()
            outbox = self._take_over(writer)
            if outbox is not None:
                threading.Thread(target=self._read, args=(reader, outbox), daemon=True).start()
            else:
                reader.close()
                with contextlib.suppress(OSError):
                    writer.close()

    def _take_over(self, writer: IO[str]) -> Outbox | None:
        """This supervisor is ours from now on, unless another is."""
        with self._lock:
            if self._outbox is not None:
                return None
            self._outbox = Outbox(writer)
            self._outbox.put_all([*self._history, {"event": "adopted"}])
            return self._outbox


def _put(outbox: Outbox, event: Message) -> None:
    kind = event["event"]
    if kind in FLOWING:
        outbox.put_when_room(event)
    elif kind in PASSING:
        outbox.put_if_swift(event)
    else:
        outbox.put(event)


def _listen(path: Path) -> socket.socket:
    """A socket that only this user can reach; the folder is entered first, since a socket's path is short."""
    server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    path.unlink(missing_ok=True)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        server.bind(f"/proc/self/fd/{folder}/{path.name}")
    finally:
        os.close(folder)
    path.chmod(0o600)
    server.listen(1)
    return server
