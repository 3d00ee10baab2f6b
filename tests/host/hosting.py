"""A host process of this machine without a supervisor: this test says what it does."""

from __future__ import annotations

import os
import queue
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runner.host import channel
from runner.host.channel import Channel, Event
from runner.host.job import Job
from runner.host.node import ATTEMPT
from runner.launch import Process
from tests.engines.project import WITHIN_S

from .jobs import job as job_of


@dataclass
class Hosted:
    """A host process and what it said. Over the network `pid` is that of the relay."""

    channel: Channel
    inbox: queue.Queue[tuple[int, Event]]
    log: Path
    pid: int

    def hear(self, kind: str, *, within_s: float = WITHIN_S) -> Event:
        """The next event of that kind. What goes wrong instead fails the test."""
        deadline_s = time.monotonic() + within_s
        while True:
            try:
                _, event = self.inbox.get(timeout=max(0.0, deadline_s - time.monotonic()))
            except queue.Empty:
                raise AssertionError(f"no {kind} within {within_s:g} s\n{self.log.read_text()}") from None
            if event["event"] == kind:
                return event
            assert event["event"] not in ("error", "lost"), f"{event}\n{self.log.read_text()}"

    def train(self, job: Job) -> None:
        """Have it start the ranks of a job."""
        self.channel.send("fetch", job=job.to_json())
        self.hear("fetched")
        self.channel.send("go")
        self.hear("started")

    def children(self) -> list[int]:
        """Processes that it started."""
        listed = (Path("/proc") / str(self.pid)).glob("task/*/children")
        return [int(pid) for each in listed for pid in each.read_text().split()]

    def kill_with_guardian(self) -> None:
        """As a batch system does that ends a group of processes: all of them at once, with -9."""
        children = self.children()
        words = [(Path("/proc") / str(pid) / "cmdline").read_bytes() for pid in children]
        assert any(b"runner.host.leash" in each for each in words), words
        everybody = [self.pid, *children]
        for pid in everybody:
            os.kill(pid, signal.SIGSTOP)
        for pid in everybody:
            os.kill(pid, signal.SIGKILL)


@contextmanager
def local_host(place: Path) -> Iterator[Hosted]:
    """A host process as on one machine."""
    inbox: queue.Queue[tuple[int, Event]] = queue.Queue()
    opened = channel.start(
        0, inbox, scratch=place / "scratch", lease_s=60, lease_fds=(), environ=os.environ, imports="docker"
    )
    yield from _hosted(opened, inbox, place / "scratch" / "host.log")


@contextmanager
def remote_host(
    place: Path, *, lease_s: float = 20.0, silence_s: float = 20.0, environ: Mapping[str, str] | None = None
) -> Iterator[Hosted]:
    """A host process as over the network, with its folder where that of a job of `job` is."""
    inbox: queue.Queue[tuple[int, Event]] = queue.Queue()
    (place / "home" / "scratch").mkdir(parents=True, exist_ok=True)
    opened = channel.over(
        0,
        inbox,
        argv=[
            *(sys.executable, str(Path(__file__).with_name("relay.py"))),
            *(sys.executable, "-m", "runner.host", "run/node-0", str(lease_s), "", "remote"),
        ],
        log=place / "host.log",
        environ={**os.environ, **(environ or {}), "PUSHTRAIN_HOME": str(place / "home")},
        silence_s=silence_s,
    )
    yield from _hosted(opened, inbox, place / "host.log")


def remote_job(place: Path, *processes: Process, **others: Any) -> Job:
    """A job for it, of plain processes."""
    work = place / "home" / "scratch" / "run" / "node-0" / "work"
    return job(place, *processes, work=work, **{"venv": str(place), "outputs": "outputs", **others})


def _hosted(opened: Channel, inbox: queue.Queue[tuple[int, Event]], log: Path) -> Iterator[Hosted]:
    assert opened._child is not None
    hosted = Hosted(opened, inbox, log, opened._child.pid)
    try:
        hosted.hear("ready")
        yield hosted
    finally:
        opened.send("kill")
        opened.close(timeout_s=20)


def job(place: Path, *processes: Process, work: Path | None = None, **others: Any) -> Job:
    """A job of one node whose source is there already."""
    work = work or place / "scratch" / "work"
    work.mkdir(parents=True, exist_ok=True)
    (work.parent / ATTEMPT).write_text("1")  # What lies in it is of the attempt before.
    place.chmod(0o755)
    given: dict[str, Any] = {
        "venv": None,
        "node_rank": 0,
        "hostnames": ("node-0",),
        "resume": False,
        "world_size": sum(process.kind != "launcher" for process in processes),
        "log_keys": {str(process.rank): f"logs/{process.rank}" for process in processes},
        "live_prefix": "live/",
        "chief_prefix": "live/",
    }
    return job_of(place, *processes, **given | others)


def direct(*scripts: str) -> tuple[Process, ...]:
    """Ranks that the host starts."""
    return tuple(
        Process(rank=rank, local_rank=rank, node_rank=0, argv=("/bin/sh", "-c", script))
        for rank, script in enumerate(scripts)
    )


def under_launcher(script: str) -> tuple[Process, ...]:
    """A rank, and the launcher that starts it."""
    env = {"PUSHTRAIN_NODE_RANK": "0", "PUSHTRAIN_PROCESSES_PER_NODE": "1"}
    launcher = "OMPI_COMM_WORLD_LOCAL_RANK=0 pushtrain-rank & wait"
    return (
        Process(rank=0, local_rank=0, node_rank=0, argv=("/bin/sh", "-c", script), env=env, kind="launched"),
        Process(
            rank=1, local_rank=1, node_rank=0, argv=("/bin/sh", "-c", launcher), env=env, kind="launcher"
        ),
    )


def printed(job: Job, rank: int = 0) -> Callable[[], str]:
    """What a rank printed so far."""
    from runner.store import open_store

    store = open_store(job.store)
    return lambda: store.tail(job.log_keys[str(rank)], offset=0).decode()
