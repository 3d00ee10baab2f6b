"""Calls of pushtrain-agent: a command of one node's launcher, run by the host of another; streams there and back.

The caller's host tells the supervisor `call`, `call-data` and `call-eof`, and hears `call-out` and `call-end`. The
supervisor passes them on to the host of the node that was called, and back. Data is in base64.
"""

from __future__ import annotations

import base64
import contextlib
import os
import queue
import re
import select
import stat
import threading
from io import FileIO
from typing import TYPE_CHECKING, Any

from runner.errors import PushtrainError
from runner.host.gang_folder import NEW_CALLS

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from runner.host.ranks import Command, Ranks

CHUNK_BYTES = 64 * 1024
COMMAND_LIMIT_BYTES = 1 << 20
TOLD_LIMIT_BYTES = 64 * 1024
WAITING_CHUNKS = 256  # of input that a command has not read yet
BROKEN_OFF = -1
REFUSED = 255  # as ssh has it
_NAME = re.compile(r"call-[A-Za-z0-9]+")


class Caller:
    """Listens to the agents of this node. `tell` is called from threads of its own.

    The folder is the training's to write in, and this process may be root: whatever lies there is opened by name within
    it, never through a link, and only if it is what it should be.
    """

    def __init__(self, folder: Path, tell: Callable[[dict[str, Any]], None]) -> None:
        self._folder = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        self._tell = tell
        self._answers: dict[str, queue.Queue[tuple[int, bytes]]] = {}
        # For both ways: it neither blocks until an agent comes, nor ends when one goes.
        self._new = _pipe(NEW_CALLS, self._folder, os.O_RDWR)
        self._wake, self._lock, self._closed = os.eventfd(0), threading.Lock(), False
        threading.Thread(target=self._listen, daemon=True).start()

    def answer(self, call: str, stream: int, data: bytes) -> None:
        """Pass on what the called command printed: stream 1 or 2; 0 is its end, `data` the exit code in digits."""
        if (answers := self._answers.get(call)) is not None:
            answers.put((stream, data))

    def close(self) -> None:
        """Listen no more, and break off the calls that still run. Safe to repeat."""
        with self._lock:
            if not self._closed:
                self._closed = True
                os.eventfd_write(self._wake, 1)
        for answers in tuple(self._answers.values()):
            answers.put((BROKEN_OFF, b""))

    def _listen(self) -> None:
        poller = select.poll()
        poller.register(self._new.fileno(), select.POLLIN)
        poller.register(self._wake, select.POLLIN)
        told = b""
        while True:
            ready = {fd for fd, _ in poller.poll()}
            if self._wake in ready:
                break
            *names, told = (told + os.read(self._new.fileno(), CHUNK_BYTES)).split(b"\n")
            told = told if len(told) <= TOLD_LIMIT_BYTES else b""
            for name in names:
                # No call of an agent: nobody waits for it.
                with contextlib.suppress(OSError, UnicodeDecodeError):
                    self._begin(name.decode())
        self._new.close()
        os.close(self._wake)
        os.close(self._folder)

    def _begin(self, call: str) -> None:
        if call in self._answers or not _NAME.fullmatch(call):
            return
        with contextlib.ExitStack() as opened:
            place = os.open(call, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=self._folder)
            opened.callback(os.close, place)
            node, command = _text_of("node", place), _text_of("command", place)
            with self._lock:
                if self._closed:
                    return
                self._answers[call] = queue.Queue()
            self._tell({"event": "call", "call": call, "node": node, "command": command})
            threading.Thread(target=self._serve, args=(call, place), daemon=True).start()
            opened.pop_all()  # It closes the place.

    def _serve(self, call: str, place: int) -> None:
        """Until both ways of the call have ended."""
        there = threading.Thread(target=self._send_input, args=(call, place), daemon=True)
        there.start()
        try:
            self._pass_back(call, place)
        finally:
            there.join()
            os.close(place)

    def _send_input(self, call: str, place: int) -> None:
        with contextlib.suppress(OSError), _pipe("in", place, os.O_RDONLY) as pipe:
            while data := pipe.read(CHUNK_BYTES):
                self._tell({"event": "call-data", "call": call, "data": _text(data)})
        self._tell({"event": "call-eof", "call": call})

    def _pass_back(self, call: str, place: int) -> None:
        answers = self._answers[call]
        code = None
        with contextlib.suppress(OSError):  # The agent is gone, and with it whoever wanted to know.
            with _pipe("out", place, os.O_WRONLY) as out, _pipe("err", place, os.O_WRONLY) as err:
                while code is None:
                    stream, data = answers.get()
                    if stream == BROKEN_OFF:
                        code = str(REFUSED).encode()
                    elif stream == 0:
                        code = data
                    else:
                        (out if stream == 1 else err).write(data)
            with _pipe("code", place, os.O_WRONLY) as end_of_call:
                end_of_call.write(code + b"\n")
        del self._answers[call]


def _text_of(name: str, folder: int) -> str:
    """A small file of a call. Raises OSError where it is none."""
    file = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=folder)
    with os.fdopen(file, "rb") as opened:
        if not stat.S_ISREG(os.fstat(file).st_mode):
            raise OSError(f"{name} is no file")
        return opened.read(COMMAND_LIMIT_BYTES).decode()


def _pipe(name: str, folder: int, flags: int) -> FileIO:
    """A pipe of a call; for one way it blocks until the agent has it open too. Raises OSError where it is none."""
    looked = os.open(name, os.O_PATH | os.O_NOFOLLOW, dir_fd=folder)
    try:
        if not stat.S_ISFIFO(os.fstat(looked).st_mode):
            raise OSError(f"{name} is no pipe")
        # What was looked at is what is opened, whatever lies under the name by now.
        mode = {os.O_RDONLY: "rb", os.O_WRONLY: "wb", os.O_RDWR: "r+b"}[flags]
        return FileIO(os.open(f"/proc/self/fd/{looked}", flags), mode)
    finally:
        os.close(looked)


class Called:
    """Commands that launchers of other nodes run here. `tell` and `on_idle` are called from threads."""

    def __init__(
        self, ranks: Ranks, tell: Callable[[dict[str, Any]], None], *, on_idle: Callable[[], None]
    ) -> None:
        self._ranks, self._tell, self._on_idle = ranks, tell, on_idle
        self._commands: dict[str, _Running] = {}

    @property
    def busy(self) -> bool:
        """Whether a command still runs."""
        return bool(self._commands)

    def begin(self, call: str, command: str) -> None:
        """Run it. What goes wrong is told to the caller as ssh would: a line and the code 255."""
        try:
            started = self._ranks.command(command)
        except PushtrainError as error:
            self._tell(out(call, 2, f"{error}\n".encode()))
            self._tell(end(call, REFUSED))
            return
        self._commands[call] = running = _Running(started)
        threading.Thread(target=self._follow, args=(call, running), daemon=True).start()

    def write(self, call: str, data: str) -> None:
        """Input for the command, in base64. A command that reads none of it for long is ended."""
        if (running := self._commands.get(call)) is not None:
            running.give(base64.b64decode(data))

    def close_stdin(self, call: str) -> None:
        """The end of its input."""
        if (running := self._commands.get(call)) is not None:
            running.give(None)

    def kill(self) -> None:
        """End all of them."""
        for running in tuple(self._commands.values()):
            running.command.kill()

    def _follow(self, call: str, running: _Running) -> None:
        for stream, data in running.command.read_streams():
            self._tell(out(call, stream, data))
        code = running.command.wait()
        del self._commands[call]
        running.end()
        if running.is_broken_off:
            self._tell(out(call, 2, b"pushtrain: the command did not read its input, so it was ended\n"))
            code = REFUSED
        self._tell(end(call, code))
        if not self._commands:
            self._on_idle()


class _Running:
    """A command and its input, which a thread writes: one that does not read must not hold up the host's only loop."""

    def __init__(self, command: Command) -> None:
        self.command, self.is_broken_off = command, False
        self._input: queue.Queue[bytes | None] = queue.Queue(WAITING_CHUNKS)
        threading.Thread(target=self._write, daemon=True).start()

    def give(self, data: bytes | None) -> None:
        """Input, None at its end. Where too much waits already, the command is ended."""
        if self.is_broken_off:
            return
        try:
            self._input.put_nowait(data)
        except queue.Full:
            self.is_broken_off = True
            self.command.kill()

    def end(self) -> None:
        """Write no more: the command has ended."""
        with contextlib.suppress(queue.Empty):
            while True:
                self._input.get_nowait()
        self._input.put(None)

    def _write(self) -> None:
        while (data := self._input.get()) is not None:
            self.command.write(data)
        self.command.close_stdin()


class Exchange:
    """Both ends of this node's calls. `tell(event, keep=)` sends to the supervisor."""

    def __init__(
        self, folder: Path, ranks: Ranks, *, tell: Callable[..., None], on_idle: Callable[[], None]
    ) -> None:
        def told(event: dict[str, Any]) -> None:
            # A supervisor that takes over has to know who calls whom; what was said meanwhile is past.
            tell(event, keep=event["event"] in ("call", "call-end"))

        self._caller = Caller(folder, told)
        self._called = Called(ranks, told, on_idle=on_idle)

    @property
    def busy(self) -> bool:
        """Whether a command of another node's launcher runs here."""
        return self._called.busy

    def take(self, message: dict[str, Any]) -> None:
        """What the supervisor passes on: `call` and its input for a command here, the rest for an agent here."""
        call = message["call"]
        match message["op"]:
            case "call":
                self._called.begin(call, message["command"])
            case "call-data":
                self._called.write(call, message["data"])
            case "call-eof":
                self._called.close_stdin(call)
            case "call-out":
                self._caller.answer(call, message["stream"], base64.b64decode(message["data"]))
            case "call-end":
                self._caller.answer(call, 0, str(message["code"]).encode())

    def kill(self) -> None:
        """End what launchers of other nodes run here."""
        self._called.kill()

    def close(self) -> None:
        """Listen to no agent any more. Safe to repeat."""
        self._caller.close()


def out(call: str, stream: int, data: bytes) -> dict[str, Any]:
    """What the command printed."""
    return {"event": "call-out", "call": call, "stream": stream, "data": _text(data)}


def end(call: str, code: int) -> dict[str, Any]:
    """How it ended."""
    return {"event": "call-end", "call": call, "code": code}


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()
