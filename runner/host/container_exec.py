"""A command in a container that runs already -> its streams, its exit code, and the signals that end it."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from typing import TYPE_CHECKING

from runner.errors import EngineError
from runner.host.docker_host import Stream, translated
from runner.host.ranks import Exit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from docker.models.containers import Container

    from runner.launch import Process

# Docker starts a command before anybody listens, and what comes along with the head of its answer is lost in a buffer.
# So the command waits for a line, and then says by which id it can be signalled: Docker makes it a session of its own.
_BEGIN = 'read -r go || exit 255; echo "$$"; '
_WITH_INPUT = _BEGIN + 'exec "$@"'
_WITHOUT_INPUT = _BEGIN + 'exec "$@" </dev/null'

# SIGKILL is for the whole session, since launchers give what they start groups of its own; others are for the group.
_SIGNALLER = """
while read -r name session; do
  kill -s "$name" -- "-$session"
  [ "$name" = KILL ] && for entry in /proc/[0-9]*; do
    read -r line <"$entry/stat" || continue
    set -- ${line##*) }
    [ "$4" = "$session" ] && kill -s KILL "${entry#/proc/}"
  done
  echo done
done 2>/dev/null
"""
ENDED_WITHIN_S = 10.0
SIGNALLED_WITHIN_S = 5.0


class Execution:
    """A command in a container, as the Protocol's `Command`. It runs with the container's user, folder and environment.

    `signal_group(pid, signum)` signals a process group of the container. Raises EngineError when Docker refuses it.
    """

    def __init__(
        self,
        container: Container,
        argv: Sequence[str],
        *,
        signal_group: Callable[[int, int], None],
        env: Mapping[str, str] | None = None,
        stdin: bool = True,
    ) -> None:
        assert container.client is not None
        self._api, self._signal_group = container.client.api, signal_group
        with translated("a command in a container cannot be started"):
            created = self._api.exec_create(
                container.id,
                ["/bin/sh", "-c", _WITH_INPUT if stdin else _WITHOUT_INPUT, "pushtrain", *argv],
                stdin=True,
                environment=dict(env or {}),
            )
            self._id: str = created["Id"]
            self._stream = Stream(self._api.exec_start(self._id, socket=True))
        self._frames = self._stream.frames()
        self._early: list[tuple[int, bytes]] = []
        self.pid = self._begin()

    def write(self, data: bytes) -> None:
        """Give it input; nothing where it has ended."""
        with contextlib.suppress(OSError):
            self._stream.send(data)

    def ask(self, data: bytes, *, within_s: float) -> None:
        """Give it input and await that it prints something. Raises OSError where it has ended, or says nothing."""
        self._stream.break_off_after(within_s)
        self._stream.send(data)
        if next(self._frames, None) is None:
            raise BrokenPipeError

    def close_stdin(self) -> None:
        """Its input has ended. Safe to repeat."""
        self._stream.end_input()

    def read_streams(self) -> Iterator[tuple[int, bytes]]:
        """What it prints, as (1 or 2, data), until it ended; Docker gives what it left behind two seconds more."""
        while self._early:
            yield self._early.pop(0)
        yield from self._frames

    def wait(self) -> int:
        """Its exit code, once its streams were read; closes them. Raises EngineError when Docker is lost."""
        self.close()
        deadline_s = time.monotonic() + ENDED_WITHIN_S
        pause_s = 0.005
        with translated("a command in a container was lost"):
            # The streams end a moment before Docker has written down the exit code.
            while (told := self._api.exec_inspect(self._id))["Running"] and time.monotonic() < deadline_s:
                time.sleep(pause_s)
                pause_s = min(0.1, pause_s * 2)
        code = told["ExitCode"]
        return 128 + signal.SIGKILL if code is None else int(code)

    def signal(self, signum: int) -> None:
        """Signal its process group. Safe when it ended already."""
        self._signal_group(self.pid, signum)

    def kill(self) -> None:
        """End it and what it started, at once. Safe to repeat."""
        self.signal(signal.SIGKILL)

    def close(self) -> None:
        """Close its streams, as `wait` does. Safe to repeat."""
        self._stream.close()

    def _begin(self) -> int:
        """Let it begin; the id of its process group, 0 where it ended before it could say it."""
        self.write(b"\n")
        said = b""
        for stream, data in self._frames:
            if stream != 1:  # Errors come by a pipe of their own, so these may be later ones.
                self._early.append((stream, data))
                continue
            said += data
            if b"\n" in said:
                break
        number, _, rest = said.partition(b"\n")
        if rest:
            self._early.append((1, rest))
        return int(number) if number.isdigit() else 0


class Signaller:
    """Signals the process groups of a container by a shell inside it, which takes about a millisecond."""

    def __init__(self, container: Container) -> None:
        self._container = container
        self._shell: Execution | None = None
        self._lock = threading.Lock()

    def signal(self, pid: int, signum: int) -> None:
        """Signal a process group, with SIGKILL its whole session. Safe where it, or the container, has ended."""
        if pid <= 1:
            return
        line = f"{signal.Signals(signum).name.removeprefix('SIG')} {pid}\n".encode()
        with self._lock:
            try:
                self._running().ask(line, within_s=SIGNALLED_WITHIN_S)
            except OSError:  # The shell was ended, as anything in there may be when memory is short.
                self._forget()
                with contextlib.suppress(OSError):
                    self._running().ask(line, within_s=SIGNALLED_WITHIN_S)

    def close(self) -> None:
        """End the shell. Safe to repeat."""
        with self._lock:
            self._forget()

    def _forget(self) -> None:
        if self._shell is not None:
            self._shell.close()
            self._shell = None

    def _running(self) -> Execution:
        if self._shell is None:
            try:
                self._shell = Execution(
                    self._container, ("/bin/sh", "-c", _SIGNALLER), signal_group=lambda *_: None
                )
            except EngineError as error:
                raise OSError(str(error)) from error
        return self._shell


class LauncherRank:
    """A launcher in the node's container."""

    def __init__(self, process: Process, execution: Execution, sink: Callable[[bytes], None]) -> None:
        self.process, self._execution, self._sink = process, execution, sink

    def wait(self) -> Exit:
        """Block until it ended and its output was read; what it left in its session is ended. Raises EngineError."""
        for _, data in self._execution.read_streams():
            self._sink(data)
        code = self._execution.wait()
        self._execution.kill()
        return Exit.of(code)

    def signal(self, signum: int) -> None:
        """Signal its process group, with SIGKILL its session. Safe when it ended already."""
        self._execution.signal(signum)

    def close(self) -> None:
        """Nothing to remove: `wait` ended its session, and its container is the node's."""
