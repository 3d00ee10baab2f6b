"""Argv -> a process of its own namespaces, and others within them; all of it found by pid and start time."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path


class LabError(RuntimeError):
    """What the lab could not do, with what was said to it."""


@dataclass(frozen=True, kw_only=True)
class Process:
    """A process of this machine; the time of its start tells it from a later one of the same number."""

    pid: int
    started: str

    @classmethod
    def of(cls, pid: int) -> Process | None:
        """The process of that number, None where none lives."""
        fields = _stat(pid)
        return None if fields is None or fields[0] in "ZX" else cls(pid=pid, started=fields[19])

    @classmethod
    def read(cls, path: Path) -> Process | None:
        """The process that `path` names, None where it is gone."""
        try:
            pid, started = path.read_text().split()
        except (FileNotFoundError, ValueError):
            return None
        named = cls(pid=int(pid), started=started)
        return named if cls.of(named.pid) == named else None

    def write(self, path: Path) -> None:
        path.write_text(f"{self.pid} {self.started}\n")

    @property
    def alive(self) -> bool:
        return Process.of(self.pid) == self

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Send a signal. Safe to repeat, also when it is gone."""
        if self.alive:
            try:
                os.kill(self.pid, number)
            except ProcessLookupError:
                return


def _stat(pid: int) -> list[str] | None:
    """What follows the name: the state first."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None


def enter(process: Process, *argv: str, kinds: str = "numpT") -> list[str]:
    """The argv that runs `argv` in the namespaces of `process`, and ends it when its caller ends."""
    flags = [f"-{kind}" for kind in kinds]
    return ["nsenter", "-t", str(process.pid), *flags, "--", "setpriv", "--pdeathsig", "TERM", *argv]


def clean(environ: Mapping[str, str], folder: Path | str, *argv: str) -> list[str]:
    """The argv that runs `argv` in `folder` with that environment and no more."""
    return ["env", "-i", "-C", str(folder), *(f"{name}={value}" for name, value in environ.items()), *argv]


def detached(argv: Sequence[str], *, log: Path | str) -> str:
    """The command line of a shell that starts `argv` in a session of its own and does not wait for it."""
    return f"setsid {shlex.join(argv)} </dev/null >>{shlex.quote(str(log))} 2>&1 &"


def sh(*argv: str, given: str | None = None) -> str:
    """What a command printed. Raises LabError where it fails."""
    done = subprocess.run(argv, input=given, capture_output=True, text=True, check=False)
    if done.returncode:
        raise LabError(f"{shlex.join(argv)}: {done.stderr.strip() or done.stdout.strip()}\n{given or ''}")
    return done.stdout


def awaited(
    what: str,
    ready: Callable[[], bool],
    *,
    timeout_s: float = 120,
    pause_s: float = 0.01,
    log: Path | None = None,
) -> None:
    """Blocks until `ready`. Raises LabError with the end of `log`."""
    deadline_s = time.monotonic() + timeout_s
    while not ready():
        if time.monotonic() > deadline_s:
            tail = ""
            if log is not None and log.exists():
                tail = "\n".join(log.read_text(errors="replace").splitlines()[-15:])
            raise LabError(f"{what} did not come within {timeout_s:.0f} s\n{tail}")
        time.sleep(pause_s)


def named(init: Process, name: str) -> list[int]:
    """The pids, as this machine sees them, of the processes in the PID namespace of `init` that are called so, or
    have that word in their command line. Those of its containers are not among them.
    """
    try:
        own = Path(f"/proc/{init.pid}/ns/pid").readlink()
    except FileNotFoundError:
        return []
    return sorted(pid for pid in _pids() if _namespace(pid) == own and name in _names(pid))


def _pids() -> list[int]:
    return [int(path.name) for path in Path("/proc").glob("[0-9]*")]


def _namespace(pid: int) -> Path | None:
    try:
        return Path(f"/proc/{pid}/ns/pid").readlink()
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return None


def _names(pid: int) -> set[str]:
    try:
        comm = Path(f"/proc/{pid}/comm").read_text().strip()
        words = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
    except (FileNotFoundError, ProcessLookupError):
        return set()
    return {comm, Path(words[0]).name, *words}
