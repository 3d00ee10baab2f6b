"""The host's end of its line to the supervisor: commands in, events out, and a new supervisor may take it over.

The line is standard input and output at first. When it breaks, a supervisor that resumes the run connects to the
host's socket instead and is told everything that happened so far.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

Message = dict[str, Any]
SOCKET = "host.sock"


class Line:
    """Calls `on_command(message)` for every command, `on_lost()` when the supervisor is gone."""

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
        self._writer: IO[str] | None = writer
        self._history: list[Message] = []
        self._lock = threading.Lock()
        self._server = _listen(folder / SOCKET)
        threading.Thread(target=self._read, args=(reader, writer), daemon=True).start()
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def lost(self) -> bool:
        """Whether no supervisor is there."""
        return self._writer is None

    def tell(self, event: Message, *, keep: bool = True) -> None:
        """Send an event; with `keep`, a supervisor that takes over later hears it too."""
        with self._lock:
            if keep:
                self._history.append(event)
            writer = self._writer
            if writer is not None:
                with contextlib.suppress(OSError, ValueError):  # A reader that is gone is noticed by `_read`.
                    _write(writer, event)

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

    def _read(self, reader: IO[str], writer: IO[str]) -> None:
        with contextlib.suppress(OSError, ValueError):
            for text in reader:
                self._on_command(json.loads(text))
        with self._lock:
            if self._writer is writer:
                self._writer = None
                gone = True
            else:
                gone = False
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
            if self._take_over(writer):
                threading.Thread(target=self._read, args=(reader, writer), daemon=True).start()
            else:
                reader.close()
                with contextlib.suppress(OSError):
                    writer.close()

    def _take_over(self, writer: IO[str]) -> bool:
        """Whether this supervisor is ours now: not where another is, nor where it went while it was told."""
        with self._lock:
            if self._writer is not None:
                return False
            try:
                for event in self._history:
                    _write(writer, event)
                _write(writer, {"event": "adopted"})
            except OSError:
                return False
            self._writer = writer
            return True


def _write(stream: IO[str], message: Message) -> None:
    stream.write(json.dumps(message) + "\n")
    stream.flush()


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
