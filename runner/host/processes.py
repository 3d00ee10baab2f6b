"""Ranks as processes of this machine, each the leader of a session of its own."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import stat
import subprocess
from typing import TYPE_CHECKING

from runner.errors import EngineError
from runner.host import orphans, stacks
from runner.host.job import machine_environment, rank_environment
from runner.host.leash import end_processes, marked_processes, shared_memory
from runner.host.memory import MemoryWatch
from runner.host.ranks import Exit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from runner.host.job import Job
    from runner.launch import Process

OUTPUT_CHUNK_BYTES = 64 * 1024
NOT_BEGUN = "it has not begun: its launcher has not started it\n"


class LocalRank:
    """A process group; `wait` also reads its output."""

    def __init__(
        self, process: Process, child: subprocess.Popen[bytes], sink: Callable[[bytes], None]
    ) -> None:
        self.process, self._child, self._sink = process, child, sink

    def wait(self) -> Exit:
        """Block until the process ended and its output was read; strays that hold the pipe are ended first."""
        assert self._child.stdout is not None
        reader = self._child.stdout.fileno()
        os.set_blocking(reader, True)
        code = _pump(self._child, reader, self._sink)
        self.signal(signal.SIGKILL)
        with contextlib.suppress(BlockingIOError):
            os.set_blocking(reader, False)
            while chunk := os.read(reader, OUTPUT_CHUNK_BYTES):
                self._sink(chunk)
        self._child.stdout.close()
        return Exit.of(code)

    def signal(self, signum: int) -> None:
        """Signal the whole process group."""
        _signal_group(self._child.pid, signum)

    def close(self) -> None:
        """Nothing to remove: `wait` ended the group, the factory ends what left it."""


def _pump(child: subprocess.Popen[bytes], reader: int, sink: Callable[[bytes], None]) -> int:
    """Pass output on until the process itself ended, whoever else holds its pipe. Returns its code."""
    import select

    end = os.pidfd_open(child.pid)
    poller = select.poll()
    poller.register(reader, select.POLLIN)
    poller.register(end, select.POLLIN)
    try:
        while True:
            ready = {fd for fd, _ in poller.poll()}
            if reader in ready:
                chunk = os.read(reader, OUTPUT_CHUNK_BYTES)
                if chunk:
                    sink(chunk)
                    continue
                poller.unregister(reader)
            if end in ready:
                return child.wait()
    finally:
        os.close(end)


class LocalCommand:
    """What a launcher on another node has run here: a process group of its own."""

    def __init__(self, child: subprocess.Popen[bytes]) -> None:
        self._child = child

    def write(self, data: bytes) -> None:
        """Give it input; nothing where it does not listen any more. Blocks until it has read most of it."""
        assert self._child.stdin is not None
        with contextlib.suppress(OSError, ValueError):
            self._child.stdin.write(data)
            self._child.stdin.flush()

    def close_stdin(self) -> None:
        """Its input has ended."""
        assert self._child.stdin is not None
        with contextlib.suppress(OSError):
            self._child.stdin.close()

    def read_streams(self) -> Iterator[tuple[int, bytes]]:
        """What it prints, as (1 or 2, data), until both streams ended."""
        import selectors

        assert self._child.stdout is not None
        assert self._child.stderr is not None
        with selectors.DefaultSelector() as selector, self._child.stdout, self._child.stderr:
            selector.register(self._child.stdout, selectors.EVENT_READ, 1)
            selector.register(self._child.stderr, selectors.EVENT_READ, 2)
            while selector.get_map():
                for key, _ in selector.select():
                    data = os.read(key.fd, OUTPUT_CHUNK_BYTES)
                    if data:
                        yield key.data, data
                    else:
                        selector.unregister(key.fileobj)

    def wait(self) -> int:
        """Block until it ended; its exit code as a shell has it."""
        return Exit.of(self._child.wait()).code

    def kill(self) -> None:
        """End its process group."""
        _signal_group(self._child.pid, signal.SIGKILL)


class LocalRanks:
    """Starts ranks in the job's working folder, with the venv's programs found first."""

    def __init__(self, job: Job, datasets: Mapping[str, str]) -> None:
        from pathlib import Path

        assert job.venv is not None
        self._job, self._datasets = job, datasets
        self._machine = machine_environment(os.environ, venv=Path(job.venv))
        self._memory = MemoryWatch()
        self._started: dict[int, int] = {}
        if job.is_gang:
            self._machine |= _open_mpi_folders(job)

    def start_all(
        self, processes: Sequence[Process], sink_of: Callable[[Process], Callable[[bytes], None]]
    ) -> list[LocalRank]:
        """Start those that no launcher starts, launchers last. Raises EngineError; `close` ends what was started."""
        here = sorted((p for p in processes if p.kind != "launched"), key=lambda p: p.kind == "launcher")
        return [self.start(process, sink_of(process)) for process in here]

    def start(self, process: Process, sink: Callable[[bytes], None]) -> LocalRank:
        """Start one rank or launcher. Raises EngineError when its program cannot be started."""
        job = self._job
        told = rank_environment(job, process, work=job.work, datasets=self._datasets)
        try:
            child = subprocess.Popen(
                job.prefixed(process.argv),
                cwd=job.work,
                env={**self._machine, **told},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        except OSError as error:
            raise EngineError(
                f"rank {process.rank} cannot be started: {error.strerror}: {process.argv[0]}",
                tip="check `run` or `entrypoint` of train.yml",
            ) from error
        self._started[process.rank] = child.pid
        return LocalRank(process, child, sink)

    def join(self) -> None:
        """Nothing to do: all nodes have this machine's network."""

    def command(self, text: str) -> LocalCommand:
        """Have a shell run `text` under the host name of this node. Raises EngineError."""
        job = self._job
        any_rank = job.processes[0]
        told = rank_environment(job, any_rank, work=job.work, datasets=self._datasets)
        argv = (*_named(job.hostnames[job.node_rank]), *job.prefixed(("/bin/sh", "-c", text)))
        child = subprocess.Popen(
            argv,
            cwd=job.work,
            env={**self._machine, **told},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        return LocalCommand(child)

    def signal(self, pid: int, signum: int) -> None:
        """Signal a process group."""
        _signal_group(pid, signum)

    def kernel_kills(self) -> int:
        """How many processes the kernel ended for memory on this machine since `look`."""
        return self._memory.kills_since_look()

    def look(self) -> None:
        """Remember what the kernel ended so far: what is not lately is not of this rank."""
        self._memory.look()

    def stacks(self, ranks: Mapping[int, int | None]) -> dict[int, str]:
        """The stacks of every rank's Python processes; a sentence for one that its launcher has not begun."""
        pids = {rank: pid or self._started.get(rank) for rank, pid in ranks.items()}
        return {rank: NOT_BEGUN if pid is None else stacks.dump((pid,)) for rank, pid in pids.items()}

    def close(self) -> None:
        """End what left its group: every process that carries this node's mark, or that came to us as an orphan.

        Raises Unkillable.
        """
        for pid in marked_processes(self._job.mark):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        orphans.end()
        end_processes(self._job.mark, grace_s=0, within_s=orphans.WITHIN_S)
        shutil.rmtree(shared_memory(self._job.mark), ignore_errors=True)


def _signal_group(pid: int, signum: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signum)


def _open_mpi_folders(job: Job) -> dict[str, str]:
    """Where Open MPI keeps sockets and shared memory: one folder, which goes with the node, however that ends.

    Anybody may make it before us, where everybody may write. Raises EngineError where somebody did.
    """
    folder = shared_memory(job.mark)
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    seen = folder.lstat()
    if not stat.S_ISDIR(seen.st_mode) or seen.st_uid != os.geteuid() or stat.S_IMODE(seen.st_mode) != 0o700:
        raise EngineError(f"{folder} is not a folder of this user's alone", tip=f"remove it: rm -r {folder}")
    return {"OMPI_MCA_orte_tmpdir_base": str(folder), "OMPI_MCA_btl_vader_backing_directory": str(folder)}


def _named(hostname: str) -> tuple[str, ...]:
    """A host name of its own for a node of this machine.

    Open MPI takes two daemons of one name for one node: their ranks crash in shared memory that they do not share, and
    Horovod counts all of them as one node's.
    """
    own = ("--uts",) if os.geteuid() == 0 else ("--user", "--map-current-user", "--keep-caps", "--uts")
    return ("unshare", *own, "/bin/sh", "-c", 'hostname "$0" && exec "$@"', hostname)
