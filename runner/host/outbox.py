"""Messages -> lines of a pipe or socket, written by a thread: whoever says something never waits for who reads it."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
from collections import deque
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

Message = dict[str, Any]

# A pipe that is cut for ten seconds holds up what launchers say to each other, and no more of it than this.
MOST_BYTES = 16 << 20
# So much may wait before what is soon said anew is left out.
PLENTY_BYTES = 1 << 20


class Outbox:
    """Writes to `stream` in the order in which it was told. A stream that breaks is written to no more."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream
        self._lines: deque[str] = deque()
        self._waiting_bytes = 0
        self._closing = self._broken = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._write_on, daemon=True)
        self._thread.start()

    def put(self, message: Message) -> None:
        """Have a message written. Returns at once."""
        self.put_all((message,))

    def put_all(self, messages: Iterable[Message]) -> None:
        """Have several written, one after another, with nothing in between. Returns at once."""
        lines = [json.dumps(message) + "\n" for message in messages]
        with self._changed:
            if self._closing or self._broken:
                return
            self._lines.extend(lines)
            self._waiting_bytes += sum(map(len, lines))
            self._changed.notify_all()

    def put_if_swift(self, message: Message) -> None:
        """Have it written, unless so much waits already that it would be old news. Returns at once."""
        if self._waiting_bytes < PLENTY_BYTES:
            self.put(message)

    def put_when_room(self, message: Message) -> None:
        """Have it written; blocks while too much waits. For what comes in any amount and may not be lost."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting_bytes < MOST_BYTES or self._closing or self._broken)
        self.put(message)

    def close(self, *, timeout_s: float) -> bool:
        """Close the stream once all is written; whether that was within the time. Safe to repeat."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def abort(self) -> None:
        """Write nothing more. A socket ends at once, also where a write waits for its reader. Safe to repeat."""
        with self._changed:
            self._closing = True
            self._lines.clear()
            self._waiting_bytes = 0
            self._changed.notify_all()
        with contextlib.suppress(OSError, ValueError):
            _shut(self._stream.fileno())

    def _write_on(self) -> None:
        # Not by the stream's own buffer: a write that waits would hold its lock, also when this process wants to end.
        with contextlib.suppress(OSError, ValueError), contextlib.closing(self._stream):
            while data := self._next():
                _write(self._stream.fileno(), data)
                with self._changed:
                    self._waiting_bytes = max(0, self._waiting_bytes - len(data))
                    self._changed.notify_all()
        with self._changed:
            self._broken = True
            self._lines.clear()
            self._waiting_bytes = 0
            self._changed.notify_all()

    def _next(self) -> bytes:
        """All that waits, empty at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._lines or self._closing)
            text = "".join(self._lines)
            self._lines.clear()
            return text.encode()  # ASCII, as JSON is written here


def _write(descriptor: int, data: bytes) -> None:
    left = memoryview(data)
    while left:
        left = left[os.write(descriptor, left) :]


def _shut(descriptor: int) -> None:
    """End a socket both ways; nothing for a pipe, which ends with its process."""
    copy = os.dup(descriptor)
    try:
        connection = socket.socket(fileno=copy)
    except OSError:
        os.close(copy)
        raise
    with connection:
        connection.shutdown(socket.SHUT_RDWR)
