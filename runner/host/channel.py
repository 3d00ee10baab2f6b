"""The supervisor's end of the line to one host: commands out, events into one queue for the whole gang."""

from __future__ import annotations

import contextlib
import json
import os
import select
import socket
import subprocess
import sys
import threading
import time
from typing import IO, TYPE_CHECKING, Any

from runner.host.line import PULSE_S, SOCKET
from runner.host.outbox import Outbox

if TYPE_CHECKING:
    import queue
    from collections.abc import Mapping, Sequence
    from pathlib import Path

Event = dict[str, Any]
# A host that answers at all does so at once.
ADOPTED_WITHIN_S = 10.0
# A batch system may take its time to start a step, and Python its own on a disk that is busy.
FIRST_HEARD_WITHIN_S = 60.0
SENT_WITHIN_S = 10.0


class Channel:
    """Commands to one host. Its events arrive in `inbox` as `(node_rank, event)`; `{"event": "lost"}` is the last."""

    def __init__(
        self,
        node_rank: int,
        inbox: queue.Queue[tuple[int, Event]],
        *,
        reader: IO[str],
        writer: IO[str],
        child: subprocess.Popen[str] | None,
    ) -> None:
        self.node_rank = node_rank
        self._inbox, self._outbox, self._child = inbox, Outbox(writer), child
        self._turn = threading.Lock()
        self._ended = threading.Event()
        self._heard_s = time.monotonic()
        self._was_heard = False
        self._thread = threading.Thread(target=self._read, args=(reader,), daemon=True)
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Whether the host still holds its end of the line."""
        return not self._ended.is_set()

    def send(self, op: str, **fields: object) -> None:
        """Send a command. Returns at once; a host that is gone is told by its `lost` event, not here."""
        self._outbox.put({"op": op, **fields})

    def kill(self) -> None:
        """End a host that answers no more; its leash ends what it ran. One that was taken over loses its supervisor."""
        if self._child is not None:
            self._child.kill()
        self._outbox.abort()

    def close(self, *, timeout_s: float = 60.0) -> None:
        """Say goodbye and wait for the host's end; a host that does not end is ended. Safe to repeat."""
        self.send("bye")
        if not self._outbox.close(timeout_s=min(timeout_s, SENT_WITHIN_S)):
            self.kill()
        if self._child is not None:
            try:
                self._child.wait(timeout_s)
            except subprocess.TimeoutExpired:
                self._child.kill()  # Its leash ends what it ran.
                self._child.wait()
        self._thread.join(timeout_s)

    def watch(self, *, silence_s: float, host: str) -> None:
        """Say every two seconds that the supervisor lives, and take a host that says nothing for so long for lost."""
        threading.Thread(target=self._watch, args=(silence_s, host), daemon=True).start()

    def _watch(self, silence_s: float, host: str) -> None:
        while not self._ended.wait(PULSE_S):
            self._outbox.put_if_swift({"op": "beat"})
            limit_s = silence_s if self._was_heard else max(silence_s, FIRST_HEARD_WITHIN_S)
            if time.monotonic() - self._heard_s > limit_s:
                # Told here: whoever holds its end of the pipe, nothing that it says counts any more.
                self._lose(f"nothing was heard from {host} for {limit_s:g} s")
                self.kill()

    def _read(self, reader: IO[str]) -> None:
        with contextlib.suppress(OSError, ValueError), reader:
            for text in reader:
                self._heard_s, self._was_heard = time.monotonic(), True
                self._hear(json.loads(text))
        self._lose()

    def _hear(self, event: Event) -> None:
        with self._turn:
            if self.alive and event["event"] != "alive":
                self._inbox.put((self.node_rank, event))

    def _lose(self, why: str = "") -> None:
        with self._turn:
            if not self.alive:
                return
            self._ended.set()  # Before it is told: whoever hears it may ask.
            self._inbox.put((self.node_rank, {"event": "lost", "why": why}))


def start(
    node_rank: int,
    inbox: queue.Queue[tuple[int, Event]],
    *,
    scratch: Path,
    lease_s: float,
    lease_fds: tuple[int, ...],
    environ: Mapping[str, str],
    imports: str,
) -> Channel:
    """Start a host process on this machine; it holds the GPU leases as well.

    `imports` names a library that it will need and may load while it waits for its first command; empty for none.
    """
    scratch.mkdir(parents=True, exist_ok=True)
    return _opened(
        node_rank,
        inbox,
        argv=[sys.executable, "-m", "runner.host", str(scratch), str(lease_s), imports],
        log=scratch / "host.log",
        environ={**environ, "PUSHTRAIN_LEASE_FDS": ",".join(map(str, lease_fds))},
        fds=lease_fds,
    )


def over(
    node_rank: int,
    inbox: queue.Queue[tuple[int, Event]],
    *,
    argv: Sequence[str],
    log: Path,
    environ: Mapping[str, str],
    silence_s: float = 20.0,
    host: str = "the host",
) -> Channel:
    """Start a host process on another machine, `host`, by `argv`, whose standard input and output lead there.

    `argv` ends in `python -m runner.host RUN/node-K LEASE_S IMPORTS remote`, its errors go to `log`. Both ends say
    every two seconds that they live. A host that says nothing for `silence_s` is lost; a command that does not get
    there within a minute, too. Nobody can take such a host over: it ends what it runs when its supervisor is gone.
    """
    channel = _opened(node_rank, inbox, argv=argv, log=log, environ=environ)
    channel.watch(silence_s=silence_s, host=host)
    return channel


def _opened(
    node_rank: int,
    inbox: queue.Queue[tuple[int, Event]],
    *,
    argv: Sequence[str],
    log: Path,
    environ: Mapping[str, str],
    fds: tuple[int, ...] = (),
) -> Channel:
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as errors:
        child = subprocess.Popen(
            argv,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env=dict(environ),
            pass_fds=fds,
            start_new_session=True,
        )
    assert child.stdin is not None
    assert child.stdout is not None
    return Channel(node_rank, inbox, reader=child.stdout, writer=child.stdin, child=child)


def adopt(node_rank: int, inbox: queue.Queue[tuple[int, Event]], *, scratch: Path) -> Channel | None:
    """Take over the host process that still lives in `scratch`; None where there is none (or its line is held)."""
    if not (scratch / SOCKET).exists():
        return None
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    folder = os.open(scratch, os.O_RDONLY)
    try:
        connection.connect(f"/proc/self/fd/{folder}/{SOCKET}")
    except OSError:
        connection.close()
        return None
    finally:
        os.close(folder)
    # One object for both ways would not bear a thread that reads while another writes.
    reader, writer = connection.makefile("r", encoding="utf-8"), connection.makefile("w", encoding="utf-8")
    connection.close()
    ready, _, _ = select.select([reader], [], [], ADOPTED_WITHIN_S)
    first = reader.readline() if ready else ""
    if not first:
        reader.close()
        writer.close()
        return None
    inbox.put((node_rank, json.loads(first)))
    return Channel(node_rank, inbox, reader=reader, writer=writer, child=None)
