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
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from runner.errors import EngineError
from runner.host import orphans
from runner.host.held import GUARDIAN

MARK = "PUSHTRAIN_MARK"
LEASH_GRACE_S = 5.0
# What SIGKILL does not end for so long waits in the kernel, for a disk, a file server or a GPU: nobody can end it.
KILLED_WITHIN_S = 30.0
_LOOK_AGAIN_S = 5.0


class Unkillable(EngineError):
    """A process that SIGKILL does not end: as long as it is there it may use a GPU."""


class Leash:
    """The guardian of one attempt, held by the host process."""

    def __init__(self) -> None:
        self._guardian: subprocess.Popen[str] | None = None
        self._mark = ""
        self._makes = False

    def hold(self, mark: str, *, in_docker: bool) -> None:
        """Start the guardian that ends what carries the mark if this process dies; an earlier one is let go."""
        self.drop()
        self._mark = mark
        kind = "docker" if in_docker else "local"
        self._guardian = subprocess.Popen(
            [sys.executable, "-m", GUARDIAN, mark, kind, str(LEASH_GRACE_S)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
            pass_fds=_inherited_leases(),
        )
        orphans.spare(self._guardian.pid)

    def makes(self, makes: bool) -> None:
        """Say whether Docker is making something for this attempt, which may come when nobody waits for it any more."""
        self._makes = makes
        guardian = self._guardian
        if guardian is None or guardian.stdin is None:
            return
        with contextlib.suppress(OSError, ValueError):  # It was killed, or has been let go.
            guardian.stdin.write("makes\n" if makes else "made\n")
            guardian.stdin.flush()

    def drop(self) -> None:
        """Let the guardian go where nothing is left to end, and leave the rest to it otherwise. Safe to repeat."""
        guardian, self._guardian = self._guardian, None
        makes, self._makes = self._makes, False
        if guardian is None or guardian.stdin is None:
            return
        if not makes and not marked_processes(self._mark):
            guardian.communicate("done")
        else:  # It holds the leases of the GPUs as long as something of the attempt may use them.
            with contextlib.suppress(BrokenPipeError):
                guardian.stdin.close()


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


def end_processes(mark: str, *, grace_s: float, within_s: float = KILLED_WITHIN_S) -> int:
    """SIGTERM, then SIGKILL after the grace, until none is left. Returns how many there were. Safe to repeat.

    Raises Unkillable with the host, the process and what to do where one is there `within_s` after that.
    """
    first = marked_processes(mark)
    _signal(first, signal.SIGTERM)
    deadline_s = time.monotonic() + grace_s
    while marked_processes(mark) and time.monotonic() < deadline_s:
        time.sleep(0.05)
    deadline_s = time.monotonic() + within_s
    while left := marked_processes(mark):
        if time.monotonic() > deadline_s:
            raise _unkillable(left)
        _signal(left, signal.SIGKILL)
        time.sleep(0.02)
    return len(first)


def _unkillable(pids: list[int]) -> Unkillable:
    what = ", ".join(f"{pid} ({_told(pid)})" for pid in pids)
    host = socket.gethostname()
    return Unkillable(
        f"{host}: SIGKILL does not end process {what}: it waits in the kernel, for a disk, a file server or a GPU",
        tip=f"on {host}: cat /proc/{pids[0]}/stack, mend what it waits for, or reboot; until then it may hold GPUs",
    )


def _told(pid: int) -> str:
    try:
        name, _, state = Path(f"/proc/{pid}/stat").read_text().partition("(")[2].rpartition(")")
    except OSError:
        return "it ended just now"
    return f"{name}, state {state.split()[0]}"


def _signal(pids: list[int], signum: int) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signum)


def _end_at_last(mark: str, *, grace_s: float, within_s: float) -> None:
    """End what carries the mark; while something does not end this guardian stays, and the GPU leases with it."""
    told = False
    while True:
        try:
            end_processes(mark, grace_s=grace_s, within_s=within_s)
        except Unkillable as error:
            if not told:
                sys.stderr.write(f"{error}; {error.tip}\n")
                sys.stderr.flush()
            if not _inherited_leases():
                return  # On a fleet GPUs are Slurm's to give: it drains the host, as its agent does.
            told, grace_s = True, 0.0
            time.sleep(_LOOK_AGAIN_S)
        else:
            return


def main(argv: list[str]) -> int:
    """`leash MARK KIND GRACE_S [WITHIN_S]`: wait for the host's end, then end what it ran."""
    mark, kind, grace_s = argv[0], argv[1], float(argv[2])
    os.setsid()
    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(signum, signal.SIG_IGN)
    said = sys.stdin.read().split()
    if said[-1:] == ["done"]:
        return 0
    if kind == "docker":
        from runner.host.docker_host import end_containers

        with contextlib.suppress(
            EngineError
        ):  # Without their Docker they are processes of this machine all the same.
            end_containers(mark, grace_s=grace_s)
    _end_at_last(mark, grace_s=grace_s, within_s=float(argv[3]) if argv[3:] else KILLED_WITHIN_S)
    shutil.rmtree(shared_memory(mark), ignore_errors=True)
    if said[-1:] == ["makes"]:
        from runner.host.docker_host import remove_late

        for lease in _inherited_leases():
            os.close(lease)  # What was never started uses no GPU.
        remove_late(mark)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
