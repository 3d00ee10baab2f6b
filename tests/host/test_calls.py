"""Calls of agents and ranks of launchers, over real pipes with names: what they leave, and what they may not do."""

from __future__ import annotations

import base64
import os
import queue
import signal
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from runner.errors import EngineError
from runner.host import calls, launched
from runner.host.calls import Called, Caller
from runner.host.launched import LaunchedRank
from runner.host.processes import LocalCommand
from runner.host.ranks import Exit, Ranks

from . import jobs

WITHIN_S = 30.0
PIPES = ("in", "out", "err", "code")


class Told:
    """What the host tells the supervisor."""

    def __init__(self) -> None:
        self.events: queue.Queue[dict[str, Any]] = queue.Queue()

    def next(self, event: str) -> dict[str, Any]:
        """The next event of that name; what comes before it is passed over."""
        while (found := self.events.get(timeout=WITHIN_S))["event"] != event:
            pass
        return found


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "calls"
    place.mkdir()
    os.mkfifo(place / "new")
    return place


@pytest.fixture
def caller(folder: Path, told: Told) -> Iterator[Caller]:
    before = set(threading.enumerate())
    made = Caller(folder, told.events.put)
    yield made
    made.close()
    ended(*others(before))


def announce(folder: Path, name: bytes) -> None:
    with (folder / "new").open("wb") as new:
        new.write(name)


def call(folder: Path, name: str) -> Path:
    """A call as pushtrain-agent makes it."""
    place = folder / name
    place.mkdir()
    for pipe in PIPES:
        os.mkfifo(place / pipe)
    (place / "node").write_text("node-0")
    (place / "command").write_text("x")
    announce(folder, f"{name}\n".encode())
    return place


def answered(place: Path, caller: Caller, *, code: bytes) -> bytes:
    """What an agent reads when its command has ended with that code."""
    (place / "in").open("wb").close()
    with (place / "out").open("rb"), (place / "err").open("rb"):
        caller.answer(place.name, 0, code)
        return (place / "code").read_bytes()


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208  # counted, not looked at


def ended(*threads: threading.Thread) -> None:
    for thread in threads:
        thread.join(WITHIN_S)
        assert not thread.is_alive()


def others(before: set[threading.Thread]) -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread not in before]


def test_an_ended_call_leaves_nothing_open(folder: Path, caller: Caller, told: Told) -> None:
    threads, files = set(threading.enumerate()), descriptors()

    for number in range(3):
        place = call(folder, f"call-{number}")
        told.next("call")
        assert answered(place, caller, code=b"7") == b"7\n"
        ended(*others(threads))

    assert descriptors() == files


def test_a_closed_listener_leaves_nothing_open_and_breaks_calls_off(folder: Path, told: Told) -> None:
    threads, files = set(threading.enumerate()), descriptors()
    caller = Caller(folder, told.events.put)
    place = call(folder, "call-a")
    told.next("call")

    (place / "in").open("wb").close()
    with (place / "out").open("rb"), (place / "err").open("rb"):
        caller.close()
        caller.close()
        assert (place / "code").read_bytes() == b"255\n"

    ended(*others(threads))
    assert descriptors() == files


def test_names_that_are_none_do_not_end_the_listener(folder: Path, caller: Caller, told: Told) -> None:
    announce(folder, b"\n../x\n\xff\ncall-missing\n")

    place = call(folder, "call-a")

    assert told.next("call")["call"] == "call-a"
    assert answered(place, caller, code=b"0") == b"0\n"


def test_a_name_without_an_end_is_not_kept(folder: Path, caller: Caller, told: Told) -> None:
    announce(folder, b"x" * (2 * calls.TOLD_LIMIT_BYTES))
    announce(folder, b"\n")

    place = call(folder, "call-a")

    assert told.next("call")["call"] == "call-a"
    assert answered(place, caller, code=b"0") == b"0\n"


class Shells:
    """Ranks whose commands are shells of this machine."""

    def command(self, text: str) -> LocalCommand:
        """Run `text`."""
        pipe = subprocess.PIPE
        argv = ["/bin/sh", "-c", text]
        return LocalCommand(
            subprocess.Popen(argv, stdin=pipe, stdout=pipe, stderr=pipe, start_new_session=True)
        )


@pytest.fixture
def called(told: Told) -> Called:
    return Called(cast(Ranks, Shells()), told.events.put, on_idle=lambda: told.events.put({"event": "idle"}))


def test_a_command_reads_its_input_to_the_end(called: Called, told: Told) -> None:
    called.begin("call-a", "wc -c")
    for _ in range(3):
        called.write("call-a", calls._text(b"x" * 100_000))
    called.close_stdin("call-a")

    assert base64.b64decode(told.next("call-out")["data"]).strip() == b"300000"
    assert told.next("call-end")["code"] == 0
    told.next("idle")


def test_a_command_that_does_not_read_holds_nobody_up_and_is_ended(called: Called, told: Told) -> None:
    called.begin("call-a", "exec sleep 600")
    chunk = calls._text(b"x" * calls.CHUNK_BYTES)

    for _ in range(calls.WAITING_CHUNKS + 3):  # One chunk is being written.
        called.write("call-a", chunk)

    assert b"did not read its input" in base64.b64decode(told.next("call-out")["data"])
    assert told.next("call-end")["code"] == 255
    told.next("idle")


class Launched:
    """A launched rank, its pipes, and what was done to it."""

    def __init__(self, place: Path, *, restartable: bool = False) -> None:
        self.printed: list[bytes] = []
        self.kills: list[tuple[int, int]] = []
        self.begun: list[bool] = []
        for name in ("output", "status"):
            os.mkfifo(place / name)
        self.place = place
        self.rank = LaunchedRank(
            jobs.launched(restartable=restartable),
            place,
            self.printed.append,
            kill=lambda pid, signum: self.kills.append((pid, signum)),
            on_begun=lambda: self.begun.append(True),
        )

    def say(self, line: bytes) -> None:
        """As pushtrain-rank does."""
        with (self.place / "status").open("wb") as status:
            status.write(line)


def test_what_a_launched_rank_left_behind_is_ended(tmp_path: Path) -> None:
    made = Launched(tmp_path)
    made.say(b"started 4242\nended 1\n")

    assert made.rank.wait() == Exit.of(1)
    made.rank.close()

    assert made.kills == [(4242, signal.SIGKILL)]


def test_what_a_restartable_rank_left_is_ended_when_it_does_not_come_again(tmp_path: Path) -> None:
    made = Launched(tmp_path, restartable=True)
    made.say(b"started 4242\nended 1\n")
    made.rank._hear()
    assert made.kills == []
    made.say(b"started 4343\nended 0\n")
    made.rank.abandon()

    assert made.rank.wait() == Exit.of(0)
    made.rank.close()

    assert made.kills == [(4343, signal.SIGKILL)]
    assert made.begun == [True]


def test_lines_of_others_in_the_pipe_are_no_words_of_the_rank(tmp_path: Path) -> None:
    made = Launched(tmp_path)
    made.say(b"started 0\nstarted 1\nstarted -5\nended x\n" + b"y" * (launched.TOLD_LIMIT_BYTES - 100))
    made.rank._hear()
    assert made.rank.pid is None
    made.say(b"y" * 1000)
    made.rank._hear()

    assert made.rank._told == b""
    made.say(b"\nstarted 4242\nended 3\n")
    assert made.rank.wait() == Exit.of(3)
    made.rank.close()


def test_something_that_prints_on_after_the_rank_does_not_hold_it_up(tmp_path: Path) -> None:
    made = Launched(tmp_path)
    with (
        (tmp_path / "output").open("wb") as output,
        subprocess.Popen(["cat", "/dev/zero"], stdout=output) as stray,
    ):
        made.say(b"started 4242\nended 0\n")

        assert made.rank.wait() == Exit.of(0)

        stray.kill()
    made.rank.close()


@pytest.mark.parametrize("name", ["output", "status"])
def test_a_file_in_place_of_a_pipe_is_refused(tmp_path: Path, name: str) -> None:
    files = descriptors()
    os.mkfifo(tmp_path / ("output" if name == "status" else "status"))
    (tmp_path / name).touch()

    with pytest.raises(EngineError, match="is not the pipe that was made for the rank"):
        LaunchedRank(jobs.launched(), tmp_path, print, kill=lambda *_: None, on_begun=lambda: None)

    assert descriptors() == files
