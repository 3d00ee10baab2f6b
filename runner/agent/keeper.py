"""The daemons that a host wants -> kept running: taken over, started again with back-off, ended in order."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import select
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from runner.agent import processes
from runner.agent.processes import Noted, Process
from runner.errors import PushtrainError

if TYPE_CHECKING:
    from collections.abc import Callable

    from runner.agent.daemons import Daemon

logger = logging.getLogger(__name__)

READY_WITHIN_S = 10.0
GRACE_S = 10.0
# One that ran for so long and then died is started at once; one that dies sooner waits, each time twice as long.
HEALTHY_S = 60.0
MOST_WAIT_S = 30.0
MOST_LOG_BYTES = 32 * 2**20


@dataclass(kw_only=True)
class _Kept:
    """One daemon while it is kept. `due_s` is when to start it, None while it runs; `since_s` when it was started."""

    daemon: Daemon
    stamp: str
    process: Process | None = None
    pidfd: int = -1
    failures: int = 0
    restarts: int = 0
    since_s: float = 0.0
    due_s: float | None = None


class Keeper:
    """The daemons of one host; `started` is called with the name of each that was started.

    Not safe to use from several threads, but for `restart`.
    """

    def __init__(
        self,
        daemons: tuple[Daemon, ...],
        *,
        noted: Path,
        logs: Path,
        configured_by: tuple[Path, ...] = (),
        started: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._kept = {
            daemon.name: _Kept(daemon=daemon, stamp=_stamp(daemon, configured_by)) for daemon in daemons
        }
        self._noted, self._logs, self._started = noted, logs, started
        self._before: dict[str, Callable[[], None]] = {}
        self._poll = select.poll()

    def begin(self, *, before: dict[str, Callable[[], None]] | None = None) -> None:
        """Take over what runs as it is wanted, start the rest in order.

        `before` is called ahead of every start by name, also of later ones, which are put off by what it raises.
        """
        self._before = before or {}
        earlier = processes.load(self._noted)
        self._end_unwanted(earlier)
        # All that runs before anything is started: what is noted then is whole, should the agent be killed meanwhile.
        for name, kept in self._kept.items():
            if (note := earlier.get(name)) and note.process and note.process.alive:
                self._take_over(kept, note)
        for name, kept in self._kept.items():
            if kept.process is None:
                self._prepare(name)
                self._start(kept)
        self._save()

    def _prepare(self, name: str) -> None:
        self._before.get(name, lambda: None)()

    def _end_unwanted(self, earlier: dict[str, Noted]) -> None:
        for name, note in reversed(earlier.items()):
            kept = self._kept.get(name)
            if note.process and (kept is None or kept.stamp != note.stamp):
                logger.info("%s is ended: what it was told has changed", name)
                processes.end(note.process, grace_s=GRACE_S)

    def _take_over(self, kept: _Kept, note: Noted) -> None:
        logger.info("%s is taken over: process %d", kept.daemon.name, note.process.pid if note.process else 0)
        # How often it failed is counted anew: who started this agent may have cured why.
        kept.process, kept.since_s, kept.restarts = note.process, note.since_s, note.restarts
        self._watch(kept)

    def wait(self, wakeup: int, *, most_s: float) -> None:
        """Wait for a signal (by the descriptor `wakeup`), the death of a daemon or the time; start what is due."""
        self._poll.register(wakeup, select.POLLIN)
        due = [kept.due_s for kept in self._kept.values() if kept.due_s is not None]
        wait_s = max(0.0, min([most_s, *(each - time.monotonic() for each in due)]))
        readable = {descriptor for descriptor, _ in self._poll.poll(wait_s * 1000 + 1)}
        if wakeup in readable:
            os.read(wakeup, 64)
        for kept in self._kept.values():
            if kept.pidfd in readable:
                self._died(kept)
            if kept.due_s is not None and kept.due_s <= time.monotonic():
                self._start_again(kept)

    def restart(self, name: str) -> None:
        """Let a daemon end; it is started again as one that died. From any thread."""
        kept = self._kept[name]
        if kept.process is not None:
            kept.failures = 0
            processes.end(kept.process, grace_s=GRACE_S)

    def up_for_s(self, name: str) -> float:
        """For how long it has been running; 0 where it does not."""
        kept = self._kept.get(name)
        return time.time() - kept.since_s if kept and kept.process and kept.process.alive else 0.0

    def end(self, names: tuple[str, ...] | None = None) -> None:
        """End those daemons, or all, the last started first; they stay ended."""
        for kept in reversed(self._kept.values()):
            if names is None or kept.daemon.name in names:
                if kept.process is not None:
                    processes.end(kept.process, grace_s=GRACE_S)
                    self._forget(kept)
                kept.due_s, kept.failures = None, 0
        self._save()

    def rotate(self) -> None:
        """Keep their logs within bounds."""
        for kept in self._kept.values():
            for path in {kept.daemon.log(self._logs), kept.daemon.printed(self._logs)}:
                try:
                    processes.rotate(path, most_bytes=MOST_LOG_BYTES)
                except OSError as error:  # As while the disk is full.
                    logger.info("%s stays as long as it is: %s", path, error)

    # how

    def _start_again(self, kept: _Kept) -> None:
        try:
            self._prepare(kept.daemon.name)
        except PushtrainError as error:
            logger.error("%s is not started: %s", kept.daemon.name, error)
            self._later(kept)
        else:
            self._start(kept)

    def _start(self, kept: _Kept) -> None:
        daemon = kept.daemon
        kept.due_s = None
        if daemon.ready is not None:
            # What a killed one left would say that this one is ready.
            daemon.ready.unlink(missing_ok=True)
        kept.since_s = time.time()
        try:
            kept.process = processes.start(daemon, logs=self._logs)
        except OSError as error:
            logger.error("%s cannot be started: %s", daemon.name, error)
            self._later(kept)
        else:
            logger.info("%s is started: process %d", daemon.name, kept.process.pid)
            self._watch(kept)
            # At once: of one that is noted nowhere the next agent would say that another program has its port.
            self._save()
            if daemon.ready is not None:
                processes.awaited(daemon.ready, kept.process, within_s=READY_WITHIN_S)
            self._started(daemon.name)
        self._save()

    def _watch(self, kept: _Kept) -> None:
        assert kept.process is not None
        try:
            kept.pidfd = os.pidfd_open(kept.process.pid)
        except ProcessLookupError:
            self._later(kept)
        else:
            self._poll.register(kept.pidfd, select.POLLIN)

    def _died(self, kept: _Kept) -> None:
        logger.warning("%s ended: %s", kept.daemon.name, processes.tail(kept.daemon.log(self._logs), lines=1))
        kept.restarts += 1
        self._forget(kept)
        self._later(kept)
        self._save()

    def _forget(self, kept: _Kept) -> None:
        if kept.pidfd >= 0:
            with contextlib.suppress(KeyError):
                self._poll.unregister(kept.pidfd)
            os.close(kept.pidfd)
        if kept.process is not None:
            processes.reap(kept.process.pid)
        kept.process, kept.pidfd = None, -1

    def _later(self, kept: _Kept) -> None:
        if time.time() - kept.since_s > HEALTHY_S:
            kept.failures = 0
        wait_s = min(2.0 ** (kept.failures - 1), MOST_WAIT_S) if kept.failures else 0.0
        kept.failures += 1
        kept.due_s = time.monotonic() + wait_s

    def _save(self) -> None:
        processes.save(
            self._noted,
            {
                name: Noted(
                    process=kept.process,
                    failures=kept.failures,
                    since_s=kept.since_s,
                    stamp=kept.stamp,
                    restarts=kept.restarts,
                )
                for name, kept in self._kept.items()
            },
        )


def _stamp(daemon: Daemon, configured_by: tuple[Path, ...]) -> str:
    """What a daemon was told: where it differs, the running one is of no use."""
    told = hashlib.sha256("\0".join(daemon.argv).encode())
    if daemon.name.startswith("slurm"):
        for path in configured_by:
            told.update(path.read_bytes())
    if daemon.conf is not None:
        told.update(daemon.conf.read_bytes())
    return told.hexdigest()[:16]
