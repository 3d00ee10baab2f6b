"""A command line of a build: its lines, and its end with whoever started it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from runner.environment.stream import stream

STARTER = (
    "import os, sys; from runner.environment.stream import stream;"
    "stream(['sleep', '600'], env=os.environ, log=print) if sys.argv[1] == 'sleep' else None"
)


def children(pid: int) -> list[int]:
    """The process ids of a process's children."""
    return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def gone(pid: int) -> bool:
    """Whether the process ended, a zombie included."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def until(condition: Callable[[], object], *, within_s: float = 10.0) -> None:
    """Wait for a condition, at most so long."""
    deadline_s = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline_s
        time.sleep(0.02)


def test_every_line_is_told_and_the_exit_code_is_the_commands_own() -> None:
    told: list[str] = []

    ended = stream(["sh", "-c", "echo one; echo two >&2; exit 3"], env=os.environ, log=told.append)

    assert (ended.code, told, ended.lines) == (3, ["one", "two"], ("one", "two"))


def test_a_build_ends_with_its_supervisor_even_when_that_is_killed() -> None:
    starter = subprocess.Popen([sys.executable, "-c", STARTER, "sleep"])
    until(lambda: children(starter.pid))
    (build,) = children(starter.pid)
    until(lambda: Path(f"/proc/{build}/comm").read_text().strip() == "sleep")

    starter.send_signal(signal.SIGKILL)
    starter.wait()

    until(lambda: gone(build))
