"""A host tells a supervisor that takes over what happened so far in this attempt, and nothing of earlier ones."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import pytest

from runner.host import channel
from runner.host.line import SOCKET, AdoptableLine

Message = dict[str, Any]


class Desk:
    """A host's line whose first supervisor is this test, through two pipes."""

    def __init__(self, folder: Path) -> None:
        to_host, from_host = os.pipe(), os.pipe()
        self.commands: queue.Queue[Message] = queue.Queue()
        self.lost: queue.Queue[bool] = queue.Queue()
        self.supervisor_out = os.fdopen(to_host[1], "w")
        self.supervisor_in = os.fdopen(from_host[0])
        self._host_in, self._host_out = os.fdopen(to_host[0]), os.fdopen(from_host[1], "w")
        self.line = AdoptableLine(
            folder,
            reader=self._host_in,
            writer=self._host_out,
            on_command=self.commands.put,
            on_lost=lambda: self.lost.put(True),
        )

    def die(self) -> None:
        """The supervisor dies; returns once the host has noticed."""
        self.supervisor_out.close()
        assert self.lost.get(timeout=10)

    def close(self) -> None:
        self.line.close()
        for stream in (self.supervisor_out, self.supervisor_in, self._host_in, self._host_out):
            stream.close()


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    made = Desk(tmp_path)
    yield made
    made.close()


@contextlib.contextmanager
def taking_over(folder: Path) -> Iterator[tuple[list[str], IO[str]]]:
    """What another supervisor hears until it is told that it took over, and where it writes commands."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    entered = os.open(folder, os.O_RDONLY)  # A socket's path is short.
    connection.connect(f"/proc/self/fd/{entered}/{SOCKET}")
    os.close(entered)
    with connection, connection.makefile("r") as reader, connection.makefile("w") as writer:
        heard: list[str] = []
        while "adopted" not in heard:
            heard.append(json.loads(reader.readline())["event"])
        yield heard, writer


def test_events_go_to_the_supervisor_and_commands_to_the_host(desk: Desk) -> None:
    desk.line.tell({"event": "ready"})
    assert json.loads(desk.supervisor_in.readline()) == {"event": "ready"}
    desk.supervisor_out.write('{"op": "go"}\n')
    desk.supervisor_out.flush()
    assert desk.commands.get(timeout=10) == {"op": "go"}


def test_a_supervisor_that_takes_over_hears_what_happened_so_far(desk: Desk, tmp_path: Path) -> None:
    desk.line.tell({"event": "fetched"})
    desk.line.tell({"event": "beat"}, keep=False)
    desk.die()
    desk.line.tell({"event": "exited"})
    with taking_over(tmp_path) as (heard, commands):
        assert heard == ["fetched", "exited", "adopted"]
        commands.write('{"op": "go"}\n')
        commands.flush()
        assert desk.commands.get(timeout=10) == {"op": "go"}
    assert desk.lost.get(timeout=10)


def test_what_an_earlier_attempt_told_is_not_told_again(desk: Desk, tmp_path: Path) -> None:
    desk.line.tell({"event": "exited"})
    desk.line.forget()
    desk.line.tell({"event": "fetched"})
    desk.die()
    with taking_over(tmp_path) as (heard, _):
        assert heard == ["fetched", "adopted"]
    assert desk.lost.get(timeout=10)


def test_a_line_that_a_supervisor_holds_cannot_be_taken_over(desk: Desk, tmp_path: Path) -> None:
    assert channel.adopt(0, queue.Queue(), scratch=tmp_path) is None


def test_there_is_nothing_to_take_over_where_no_host_lives(tmp_path: Path) -> None:
    assert channel.adopt(0, queue.Queue(), scratch=tmp_path) is None
    (tmp_path / SOCKET).touch()
    assert channel.adopt(0, queue.Queue(), scratch=tmp_path) is None
