"""A rank that a launcher (mpirun, torchrun) starts: the host listens to its output and its end by pipes with names."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import stat
import threading
import time
from typing import TYPE_CHECKING

from runner.errors import EngineError
from runner.host.gang_folder import OUTPUT, STATUS
from runner.host.ranks import Exit

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from runner.launch import Process

CHUNK_BYTES = 64 * 1024
TOLD_LIMIT_BYTES = 64 * 1024
# A pipe holds no more than this; whatever comes later is of something that the rank left and that goes on.
LEFT_BYTES, LEFT_S = 1 << 20, 2.0
LONGEST_NUMBER = 9
ORPHANED = "its launcher ended before it did"


class LaunchedRank:
    """Listens from the moment it is made, so make it before its launcher starts.

    `kill(pid, signum)` signals a process group of the node; `on_begun` is called from a thread, once. Raises
    EngineError where something else is in the place of its pipes.
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
        self._output = _pipe(folder / OUTPUT)
        try:
            self._status = _pipe(folder / STATUS)
        except EngineError:
            os.close(self._output)
            raise
        self._wake, self._waker = os.pipe()
        self._lock = threading.Lock()
        self._told = b""
        self._code: int | None = None
        self._session: int | None = None
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
        if self._session is not None:  # Its first process may have ended, what it started not.
            self._kill(self._session, signal.SIGKILL)
        self._pass_on_what_is_left()
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

    def _pass_on_what_is_left(self) -> None:
        left, until_s = LEFT_BYTES, time.monotonic() + LEFT_S
        while left > 0 and time.monotonic() < until_s and (size := self._pass_on()):
            left -= size

    def _pass_on(self) -> int:
        """Pass on what there is; how many bytes that was."""
        with contextlib.suppress(BlockingIOError):
            chunk = os.read(self._output, CHUNK_BYTES)
            self._sink(chunk)
            return len(chunk)
        return 0

    def _hear(self) -> None:
        """Take in `started PID` and `ended CODE`."""
        with contextlib.suppress(BlockingIOError):
            self._told += os.read(self._status, CHUNK_BYTES)
        *lines, rest = self._told.split(b"\n")
        self._told = rest if len(rest) <= TOLD_LIMIT_BYTES else b""
        for line in lines:
            word, _, number = line.partition(b" ")
            if not number.isdigit() or len(number) > LONGEST_NUMBER:
                continue  # The pipe is in the training's reach.
            if word == b"started" and int(number) > 1:
                self._session = self.pid = int(number)
                self._code = None
                if not self.begun:
                    self.begun = True
                    self._on_begun()
            elif word == b"ended":
                self._code, self.pid = int(number), None


def _pipe(path: Path) -> int:
    """A pipe with a name, opened for both ways. Raises EngineError where there is none."""
    try:
        opened = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_NOFOLLOW)
    except OSError as error:
        raise _no_pipe(path) from error
    if not stat.S_ISFIFO(os.fstat(opened).st_mode):
        os.close(opened)
        raise _no_pipe(path)
    return opened


def _no_pipe(path: Path) -> EngineError:
    return EngineError(
        f"{path} is not the pipe that was made for the rank",
        tip="do not write in the folder that PUSHTRAIN_GANG names",
    )
