"""The last guardian: when the host process dies, whatever way, this ends what it ran.

Started by the host with its standard input on a pipe that only the host holds. An end of file without the word
`done` means that the host died. What is ended is found by a mark that every rank inherits (`PUSHTRAIN_MARK` in its
environment, a label on its container), so that a process which left its group or session is found as well.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from runner.host import orphans

MARK = "PUSHTRAIN_MARK"
LEASH_GRACE_S = 5.0


class Leash:
    """The guardian of one attempt, held by the host process."""

    def __init__(self) -> None:
        self._guardian: subprocess.Popen[str] | None = None

    def hold(self, mark: str, *, in_docker: bool) -> None:
        """Start the guardian that ends what carries the mark if this process dies; an earlier one is let go."""
        self.drop()
        kind = "docker" if in_docker else "local"
        self._guardian = subprocess.Popen(
            [sys.executable, "-m", "runner.host.leash", mark, kind, str(LEASH_GRACE_S)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
            pass_fds=_inherited_leases(),
        )
        orphans.spare(self._guardian.pid)

    def drop(self) -> None:
        """Let the guardian go: nothing is left to end. Safe to repeat."""
        if self._guardian is not None:
            self._guardian.communicate("done")
            self._guardian = None


def _inherited_leases() -> tuple[int, ...]:
    """File descriptors of the GPU leases that the engine gave this process, to be held by the guardian too."""
    return tuple(int(fd) for fd in os.environ.get("PUSHTRAIN_LEASE_FDS", "").split(",") if fd)


def marked_processes(mark: str) -> list[int]:
    """Process ids whose environment carries a mark that begins so; none of other users that we may not read.

    A mark is `RUN:NODE:ATTEMPT:`, so that `RUN:` means all nodes of a run.
    """
    wanted = f"{MARK}={mark}".encode()
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            environment = (entry / "environ").read_bytes()
            state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
        except (OSError, IndexError):
            continue  # It ended meanwhile, or belongs to somebody else.
        if state != "Z" and any(line.startswith(wanted) for line in environment.split(b"\0")):
            found.append(int(entry.name))
    return found


def shared_memory(mark: str) -> Path:
    """The folder in memory that belongs to the node of that mark; short, since sockets lie in it."""
    memory = Path("/dev/shm")  # noqa: S108  # where shared memory lies
    name = f"pushtrain-{hashlib.sha256(mark.encode()).hexdigest()[:12]}"
    return (memory if memory.is_dir() else Path(tempfile.gettempdir())) / name


def end_processes(mark: str, *, grace_s: float) -> int:
    """SIGTERM, then SIGKILL after the grace, until none is left. Returns how many there were. Safe to repeat."""
    first = marked_processes(mark)
    _signal(first, signal.SIGTERM)
    deadline_s = time.monotonic() + grace_s
    while marked_processes(mark) and time.monotonic() < deadline_s:
        time.sleep(0.05)
    while left := marked_processes(mark):
        _signal(left, signal.SIGKILL)
        time.sleep(0.02)
    return len(first)


def _signal(pids: list[int], signum: int) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signum)


def main(argv: list[str]) -> int:
    """`leash MARK KIND GRACE_S`: wait for the host's end, then end what it ran."""
    mark, kind, grace_s = argv[0], argv[1], float(argv[2])
    os.setsid()
    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(signum, signal.SIG_IGN)
    if sys.stdin.read().strip() == "done":
        return 0
    if kind == "docker":
        from runner.errors import EngineError
        from runner.host.docker_host import end_containers

        with contextlib.suppress(
            EngineError
        ):  # Without their Docker they are processes of this machine all the same.
            end_containers(mark, grace_s=grace_s)
    end_processes(mark, grace_s=grace_s)
    shutil.rmtree(shared_memory(mark), ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
