"""Ranks as processes of this machine, each the leader of a session of its own."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from typing import TYPE_CHECKING

from runner.errors import EngineError
from runner.host import orphans
from runner.host.job import machine_environment, rank_environment
from runner.host.leash import marked_processes
from runner.host.ranks import Exit

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from runner.host.job import Job
    from runner.launch import Process

OUTPUT_CHUNK_BYTES = 64 * 1024


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
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._child.pid, signum)

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


class LocalRanks:
    """Starts ranks in the job's working folder, with the venv's programs found first."""

    def __init__(self, job: Job, datasets: Mapping[str, str]) -> None:
        from pathlib import Path

        assert job.venv is not None
        self._job, self._datasets = job, datasets
        self._machine = machine_environment(os.environ, venv=Path(job.venv))

    def start(self, process: Process, sink: Callable[[bytes], None]) -> LocalRank:
        """Start one rank. Raises EngineError when its program cannot be started."""
        job = self._job
        told = rank_environment(job, process, work=job.work, datasets=self._datasets)
        environment = {**self._machine, **told}
        try:
            child = subprocess.Popen(
                process.argv,
                cwd=job.work,
                env=environment,
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
        return LocalRank(process, child, sink)

    def join(self) -> None:
        """Nothing to do: all nodes have this machine's network."""

    def close(self) -> None:
        """End what left its group: every process that carries this node's mark, or that came to us as an orphan."""
        for pid in marked_processes(self._job.mark):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        orphans.end()
