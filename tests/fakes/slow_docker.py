"""A Docker that takes its time: a real one behind it, and requests that it holds back until it is told to go on."""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

_CHUNK_BYTES = 64 * 1024


@dataclass(kw_only=True)
class SlowDocker:
    """Requests that have `holds` in their first line wait; `asked` are the first lines of all, as they come.

    A request that was held is done even where whoever asked has ended, as Docker does what it has begun.
    """

    host: str
    holds: str
    asked: list[str] = field(default_factory=list)
    held: threading.Event = field(default_factory=threading.Event)
    done: threading.Event = field(default_factory=threading.Event)
    _on: threading.Event = field(default_factory=threading.Event)

    def go_on(self) -> None:
        """Hold nothing back any more. Safe to repeat."""
        self._on.set()

    def serve(self, client: socket.socket, docker: socket.socket) -> None:
        """Pass on what a connection says, until it ends."""
        waits = threading.Event()
        threading.Thread(target=self._answer, args=(docker, client, waits), daemon=True).start()
        with suppress(OSError):
            while data := client.recv(_CHUNK_BYTES):
                line = data.partition(b"\r\n")[0].decode(errors="replace")
                if line.endswith(" HTTP/1.1"):
                    self.asked.append(line)
                    if self.holds in line and not self._on.is_set():
                        data = _whole(data, client)
                        waits.set()
                        self.held.set()
                        self._on.wait()
                docker.sendall(data)
            if not waits.is_set():
                docker.shutdown(socket.SHUT_WR)

    def _answer(self, docker: socket.socket, client: socket.socket, waits: threading.Event) -> None:
        with suppress(OSError):
            while data := docker.recv(_CHUNK_BYTES):
                if waits.is_set():
                    waits.clear()
                    self.done.set()
                with suppress(BrokenPipeError):
                    client.sendall(data)
            client.shutdown(socket.SHUT_WR)


def _whole(data: bytes, client: socket.socket) -> bytes:
    """The request that begins so: whoever asks may end as soon as it is held."""
    while (end := data.find(b"\r\n\r\n")) < 0:
        data += _more(client)
    sizes = re.findall(rb"(?i)\r\ncontent-length: *(\d+)", data[:end])
    while sizes and len(data) < end + 4 + int(sizes[0]):
        data += _more(client)
    return data


def _more(client: socket.socket) -> bytes:
    if not (data := client.recv(_CHUNK_BYTES)):
        raise BrokenPipeError
    return data


@contextmanager
def slow_docker(behind: Path, folder: Path, *, holds: str) -> Iterator[SlowDocker]:
    """Answers at a socket in `folder` for the Docker whose socket is `behind`, until the end of the `with`."""
    path, opened = folder / "slow", list[socket.socket]()
    slow = SlowDocker(host=f"unix://{path}", holds=holds)

    def accept(server: socket.socket) -> None:
        with suppress(OSError):
            while True:
                client, docker = server.accept()[0], socket.socket(socket.AF_UNIX)
                docker.connect(str(behind))
                opened.extend((client, docker))
                threading.Thread(target=slow.serve, args=(client, docker), daemon=True).start()

    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen()
        thread = threading.Thread(target=accept, args=(server,), daemon=True)
        thread.start()
        try:
            yield slow
        finally:
            slow.go_on()
            server.shutdown(socket.SHUT_RDWR)
            thread.join()
            for each in opened:
                each.close()
