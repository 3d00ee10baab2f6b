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
from typing import IO, TYPE_CHECKING, Any

from runner.host.line import SOCKET

if TYPE_CHECKING:
    import queue
    from collections.abc import Mapping
    from pathlib import Path

Event = dict[str, Any]
# A host that answers at all does so at once.
ADOPTED_WITHIN_S = 10.0


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
        self._inbox, self._writer, self._child = inbox, writer, child
        self._ended = False
        self._thread = threading.Thread(target=self._read, args=(reader,), daemon=True)
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Whether the host still holds its end of the line."""
        return not self._ended

    def send(self, op: str, **fields: object) -> None:
        """Send a command; a host that is gone is told by its `lost` event, not here."""
        with contextlib.suppress(OSError, ValueError):
            self._writer.write(json.dumps({"op": op, **fields}) + "\n")
            self._writer.flush()

    def kill(self) -> None:
        """End a host that answers no more; its leash ends what it ran. One that was taken over loses its supervisor."""
        if self._child is not None:
            self._child.kill()
        with contextlib.suppress(OSError, ValueError):
            self._writer.close()

    def close(self, *, timeout_s: float = 60.0) -> None:
        """Say goodbye and wait for the host's end; a host that does not end is ended. Safe to repeat."""
        self.send("bye")
        with contextlib.suppress(OSError, ValueError):
            self._writer.close()
        if self._child is not None:
            try:
                self._child.wait(timeout_s)
            except subprocess.TimeoutExpired:
                self._child.kill()  # Its leash ends what it ran.
                self._child.wait()
        self._thread.join(timeout_s)

    def _read(self, reader: IO[str]) -> None:
        with contextlib.suppress(OSError, ValueError):
            for text in reader:
                self._inbox.put((self.node_rank, json.loads(text)))
        self._ended = True  # Before it is told: whoever hears it may ask.
        self._inbox.put((self.node_rank, {"event": "lost"}))


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
    with (scratch / "host.log").open("ab") as log:
        child = subprocess.Popen(
            [sys.executable, "-m", "runner.host", str(scratch), str(lease_s), imports],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env={**environ, "PUSHTRAIN_LEASE_FDS": ",".join(map(str, lease_fds))},
            pass_fds=lease_fds,
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
