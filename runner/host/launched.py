"""A rank that a launcher (mpirun, torchrun) starts: the host listens to its output and its end by pipes with names."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import threading
from typing import TYPE_CHECKING

from runner.host.gang_folder import OUTPUT, STATUS
from runner.host.ranks import Exit

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from runner.launch import Process

CHUNK_BYTES = 64 * 1024
ORPHANED = "its launcher ended before it did"


class LaunchedRank:
    """Listens from the moment it is made, so make it before its launcher starts.

    `kill(pid, signum)` signals a process group of the node; `on_begun` is called from a thread, once.
    """

    def __init__(
        self,
        process: Process,
        folder: Path,
        sink: Callable[[bytes], None],
        *,
        kill: Callable[[int, int], None],
        on_begun: Callable[[], None],
    ) -> None:
        self.process, self._sink, self._kill, self._on_begun = process, sink, kill, on_begun
        # Opened for both ways, so that it opens before the rank does, and never ends while a launcher may restart it.
        self._output = os.open(folder / OUTPUT, os.O_RDWR | os.O_NONBLOCK | os.O_NOFOLLOW)
        self._status = os.open(folder / STATUS, os.O_RDWR | os.O_NONBLOCK | os.O_NOFOLLOW)
        self._wake, self._waker = os.pipe()
        self._lock = threading.Lock()
        self._told = b""
        self._code: int | None = None
        self.pid: int | None = None
        self.begun = False

    def wait(self) -> Exit:
        """Block until the rank ended, or its launcher did without it. What the rank left behind is ended."""
        poller = select.poll()
        for each in (self._output, self._status, self._wake):
            poller.register(each, select.POLLIN)
        orphaned = False
        while not orphaned and (self._code is None or self.process.restartable):
            ready = {fd for fd, _ in poller.poll()}
            if self._output in ready:
                self._pass_on()
            if self._status in ready:
                self._hear()
            orphaned = self._wake in ready
        self._hear()
        self.signal(signal.SIGKILL)
        while self._pass_on():
            pass
        if self._code is None:
            return Exit(code=128 + signal.SIGKILL, signal="SIGKILL", cause=ORPHANED)
        return Exit.of(self._code)

    def signal(self, signum: int) -> None:
        """Signal the rank and what it started; nothing where it has not begun, which is its launcher's to stop."""
        if self.pid is not None:
            self._kill(self.pid, signum)

    def abandon(self) -> None:
        """No launcher will start it, or start it again. Safe to repeat."""
        with self._lock:
            if self._waker >= 0:
                os.write(self._waker, b"!")

    def close(self) -> None:
        """Close the pipes. Safe to repeat."""
        with self._lock:
            for each in (self._output, self._status, self._wake, self._waker):
                with contextlib.suppress(OSError):
                    os.close(each)
            self._output = self._status = self._wake = self._waker = -1

    def _pass_on(self) -> bool:
        with contextlib.suppress(BlockingIOError):
            chunk = os.read(self._output, CHUNK_BYTES)
            self._sink(chunk)
            return bool(chunk)
        return False

    def _hear(self) -> None:
        """Take in `started PID` and `ended CODE`."""
        with contextlib.suppress(BlockingIOError):
            self._told += os.read(self._status, CHUNK_BYTES)
        *lines, self._told = self._told.split(b"\n")
        for line in lines:
            word, _, number = line.partition(b" ")
            if word == b"started":
                self.pid, self._code = int(number), None
                if not self.begun:
                    self.begun = True
                    self._on_begun()
            elif word == b"ended":
                self._code, self.pid = int(number), None
