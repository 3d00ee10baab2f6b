"""A daemon's program -> a process that outlives the agent, found again by its number and its time of start."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from runner import decoding

if TYPE_CHECKING:
    from collections.abc import Mapping

    from runner.agent.daemons import Daemon

TAIL_BYTES = 4096


@dataclass(frozen=True, kw_only=True)
class Process:
    """A process for certain: numbers are given again, the same number at the same time of start is not."""

    pid: int
    started_ticks: int

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return started_ticks(self.pid) == self.started_ticks

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal, unless it has ended."""
        if self.alive:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)


@dataclass(frozen=True, kw_only=True)
class Noted:
    """What daemons.json says of a daemon: its process, if any, and how often in a row it failed soon after its start.

    `stamp` tells apart what it was started with; `restarts` is how often it was started again since the agent began.
    """

    process: Process | None
    failures: int = 0
    since_s: float = 0.0
    stamp: str = ""
    restarts: int = 0


def started_ticks(pid: int) -> int | None:
    """When a process started, in the kernel's ticks; None for one that has ended."""
    try:
        words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if words[0] in "ZX" else int(words[19])


def start(daemon: Daemon, *, logs: Path) -> Process:
    """Start it in a session of its own. Raises OSError where the program cannot be run."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | (os.O_TRUNC if daemon.logs else 0)
    output = os.open(daemon.printed(logs), flags, 0o600)
    try:
        child = subprocess.Popen(
            daemon.argv,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            cwd="/",
        )
    finally:
        os.close(output)
    # Reaped by the keeper by its number: the object would only complain that nobody waited.
    child.returncode = 0
    return Process(pid=child.pid, started_ticks=started_ticks(child.pid) or 0)


def reap(pid: int) -> None:
    """Take note of the end of a child; of no child, it is init's."""
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)


def end(process: Process, *, grace_s: float) -> None:
    """SIGTERM, after the grace SIGKILL; returns when it is gone. Safe to repeat."""
    try:
        descriptor = os.pidfd_open(process.pid)
    except ProcessLookupError:
        return
    try:
        for number, wait_s in ((signal.SIGTERM, grace_s), (signal.SIGKILL, grace_s)):
            process.signal(number)
            if select.select([descriptor], [], [], wait_s)[0]:
                return
    finally:
        os.close(descriptor)
        reap(process.pid)


def save(path: Path, noted: Mapping[str, Noted]) -> None:
    """Write daemons.json, whole or not at all."""
    part = path.with_name(f".{path.name}.part")
    part.write_bytes(msgspec.json.encode(noted))
    part.rename(path)


def load(path: Path) -> dict[str, Noted]:
    """What daemons.json says; {} where there is none."""
    try:
        return decoding.from_json(path.read_bytes(), dict[str, Noted])
    except (FileNotFoundError, msgspec.DecodeError):
        return {}


@dataclass(frozen=True, kw_only=True)
class Logs:
    """The logs of a folder as they were at a moment, to tell what was written since; `sizes_bytes` by name."""

    folder: Path
    sizes_bytes: Mapping[str, int]

    @classmethod
    def now(cls, folder: Path) -> Logs:
        """As they are now."""
        return cls(folder=folder, sizes_bytes={each.name: each.stat().st_size for each in folder.iterdir()})

    def tail(self, name: str) -> str:
        """The end of what was written to one since; empty where that is nothing."""
        return tail(self.folder / name, beyond_bytes=self.sizes_bytes.get(name, 0))


def tail(path: Path, *, lines: int = 8, beyond_bytes: int = 0) -> str:
    """The end of a log, of what stands `beyond_bytes` in it unless it was shortened; empty where there is none."""
    try:
        with path.open("rb") as file:
            size_bytes = os.fstat(file.fileno()).st_size
            first = beyond_bytes if beyond_bytes <= size_bytes else 0
            file.seek(max(first, size_bytes - TAIL_BYTES))
            text = file.read().decode(errors="replace")
    except FileNotFoundError:
        return ""
    return "\n".join([line for line in text.splitlines() if line.strip()][-lines:])


def awaited(path: Path, process: Process, *, within_s: float) -> bool:
    """Wait until the file is there, or the process has ended; whether it is there."""
    deadline_s = time.monotonic() + within_s
    while not path.exists():
        if not process.alive or time.monotonic() > deadline_s:
            return False
        time.sleep(0.02)
    return True


def rotate(path: Path, *, most_bytes: int) -> None:
    """Keep the last part of a log that grew beyond the limit as `NAME.1`; who appends to it goes on unharmed."""
    try:
        if path.stat().st_size <= most_bytes:
            return
    except FileNotFoundError:
        return
    with path.open("r+b") as file:
        file.seek(-min(most_bytes, os.fstat(file.fileno()).st_size), os.SEEK_END)
        path.with_name(f"{path.name}.1").write_bytes(file.read())
        file.truncate(0)
