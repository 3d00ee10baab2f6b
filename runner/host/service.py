"""The host process: does what the supervisor says, keeps what the ranks write, and ends them when nobody is left.

Commands in: `ports` (count), `fetch` (a Job), `go`, `stop` (grace_s), `finish` (grace_s), `stacks`, `kill`, `seal`,
`bye`, and what the agents of other nodes want (see calls.py). Events out: `ready`, `ports`, `progress`, `stored` (by
node 0: its checkpoints), `fetched`, `started`, `exited` per rank, `stacks`, `sealed` with the manifest, `beat` once a
second (with `gpu_util` every ten, and why it cannot be read), `error` with its class, message and tip.
"""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import signal
import socket
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runner.errors import EngineError
from runner.host import orphans
from runner.host.faults import disk_full, error_event, failure
from runner.host.gpu_use import GpuUse
from runner.host.leash import LEASH_GRACE_S, Leash
from runner.host.line import AdoptableLine, RemoteLine
from runner.host.ports import Ports

if TYPE_CHECKING:
    from collections.abc import Callable

    from runner.host.attempt import Attempt
    from runner.host.job import Job
    from runner.host.line import Line

logger = logging.getLogger(__name__)

FLUSH_S = 0.1
BEAT_S = 1.0
# A host whose supervisor is lost stores what it has, unless the store is cut off too: then its GPUs count for more.
STORED_WITHIN_S = 10.0
# Between a job's SIGTERM and its SIGKILL, unless PUSHTRAIN_KILL_WAIT_S says otherwise: Slurm's own KillWait.
KILL_WAIT_S = 30.0


class Service:
    """One node of one run on this host. What is left of it in Docker or on the machine goes with this process."""

    def __init__(self, scratch: Path, *, lease_s: float) -> None:
        self._scratch, self._lease_s = scratch, lease_s
        # Whose it is, and what is to be done: of an attempt that is over nothing is done any more.
        # A simple queue, since signals arrive in the middle of anything.
        self._inbox: queue.SimpleQueue[tuple[Attempt | None, Callable[[], None]]] = queue.SimpleQueue()
        self._attempt: Attempt | None = None
        self._ports = Ports()
        self._lease_ends_s: float | None = None
        self._leash = Leash()
        self._gpu_use = GpuUse()
        self._done = False

    def run(self) -> int:
        """Work until `bye`, or until the lease of a lost supervisor ran out. Returns the exit code."""
        orphans.adopt()
        for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(signum, lambda *_: self._inbox.put((None, self._on_signal)))
        self._line = self._open()
        self._line.tell(self._ready())
        next_beat_s = time.monotonic()
        while not self._done:
            with contextlib.suppress(queue.Empty):
                owner, act = self._inbox.get(timeout=FLUSH_S)
                if owner in (None, self._attempt):
                    act()
            if self._attempt is not None:
                self._attempt.flush()
            self._check_deadlines()
            if time.monotonic() >= next_beat_s:
                next_beat_s = time.monotonic() + BEAT_S
                self._beat()
        self._close()
        return 0

    # What differs for a host that is reached over the network

    def _open(self) -> Line:
        return AdoptableLine(
            self._scratch, reader=sys.stdin, writer=sys.stdout, on_command=self._hear, on_lost=self._lose
        )

    def _ready(self) -> dict[str, Any]:
        return {"event": "ready"}

    def _own(self, job: Job) -> Job:
        return job

    def _say(self, event: dict[str, Any], *, keep: bool = True) -> None:
        self._line.tell(event, keep=keep)

    def _grace_s(self, attempt: Attempt) -> float:
        """How long ranks may take to end after a signal to this process."""
        return attempt.grace_s

    def _on_lost(self) -> None:
        logger.warning("the supervisor is gone; waiting %.0f s for another", self._lease_s)
        self._lease_ends_s = time.monotonic() + self._lease_s

    # Messages

    def _hear(self, message: dict[str, Any]) -> None:
        """From the line's thread."""
        self._inbox.put((None, lambda: self._on_command(message)))

    def _lose(self) -> None:
        """From the line's thread."""
        self._inbox.put((None, self._on_lost))

    def _tell(self, event: dict[str, Any], *, keep: bool = True) -> None:
        number = self._attempt.number if self._attempt is not None else None
        self._say({"attempt": number, **event}, keep=keep)

    def _on_command(self, message: dict[str, Any]) -> None:
        self._lease_ends_s = None
        op = message["op"]
        if op.startswith("call"):
            if self._attempt is not None:
                self._attempt.call(message)
        else:
            getattr(self, f"_do_{op}")(message)

    def _do_ports(self, message: dict[str, Any]) -> None:
        try:
            self._tell({"event": "ports", "ports": self._ports.choose(message["count"])}, keep=False)
        except OSError as error:
            self._tell(error_event(failure(error)), keep=False)

    def _do_fetch(self, message: dict[str, Any]) -> None:
        """Make ready for an attempt: nothing of an earlier one is left or heard."""
        before = self._attempt
        if before is not None:
            before.close()
        self._line.forget()
        job = self._job(message)
        self._attempt = attempt = self._begin(job, before=before)
        self._leash.hold(job.mark, in_docker=job.image is not None)
        self._gpu_use.watch(job.gpus)
        attempt.fetch()

    def _do_go(self, _: dict[str, Any]) -> None:
        assert self._attempt is not None
        self._attempt.go()

    def _do_stop(self, message: dict[str, Any]) -> None:
        if self._attempt is not None:
            self._attempt.stop(grace_s=message["grace_s"])

    def _do_kill(self, _: dict[str, Any]) -> None:
        if self._attempt is not None:
            self._attempt.stop(grace_s=0)

    def _do_finish(self, message: dict[str, Any]) -> None:
        if self._attempt is not None:
            self._attempt.finish(grace_s=message["grace_s"])

    def _do_stacks(self, _: dict[str, Any]) -> None:
        if self._attempt is not None:
            self._attempt.stacks()

    def _do_seal(self, message: dict[str, Any]) -> None:
        if self._attempt is None:
            self._attempt = self._begin(self._job(message), before=None)
            self._attempt.seal_anew()
        else:
            self._attempt.seal()

    def _do_bye(self, _: dict[str, Any]) -> None:
        self._done = True

    def _on_signal(self) -> None:
        """This host goes down, or the batch system ends the run's job: preempted, requeued, cancelled."""
        if self._attempt is None:
            return
        grace_s = self._grace_s(self._attempt)
        self._attempt.stop(grace_s=grace_s)
        if self._line.lost:  # What ends the job ends the line as well, a moment before or later.
            self._attempt.prolong(grace_s=grace_s)

    # Work

    def _job(self, message: dict[str, Any]) -> Job:
        from runner.host.job import Job

        return self._own(Job.from_json(message["job"]))

    def _begin(self, job: Job, *, before: Attempt | None) -> Attempt:
        from runner.host.attempt import Attempt

        return Attempt(
            job,
            tell=self._say,
            post=lambda attempt, act: self._inbox.put((attempt, act)),
            gpu_use=self._gpu_use,
            before=before,
            on_makes=self._leash.makes,
        )

    def _check_deadlines(self) -> None:
        now_s = time.monotonic()
        if not self._line.lost:
            self._lease_ends_s = None
        attempt = self._attempt
        if attempt is not None:
            attempt.check_deadlines(now_s)
        if self._lease_ends_s is not None and self._line.lost and now_s >= self._lease_ends_s:
            if attempt is None or not attempt.running:
                self._done = True
            elif attempt.kill_at_s is None:
                logger.warning("nobody took the run over: stopping its ranks")
                self._line.close()  # Whoever came now would take their end for a failure of the training.
                attempt.stop(grace_s=LEASH_GRACE_S)

    def _beat(self) -> None:
        attempt = self._attempt
        silent_s = attempt.silent_s() if attempt is not None else 0.0
        self._tell({"event": "beat", "silent_s": silent_s, **self._gpu_use.told()}, keep=False)
        if attempt is None:
            return
        attempt.report()
        if self._inbox.empty():  # Ends that wait to be heard may be by what was lately.
            attempt.look()

    def _close(self) -> None:
        self._line.close()
        self._ports.close()
        if self._attempt is not None:
            self._attempt.close()
        self._leash.drop()
        self._line.end()


class RemoteService(Service):
    """The same on a machine that the supervisor reaches over the network: a lost supervisor is lost for good.

    `home` is where this host keeps its things, whatever the supervisor's own is called.
    """

    def __init__(self, home: Path, node: str, *, lease_s: float) -> None:
        super().__init__(home / "scratch" / node, lease_s=lease_s)
        self._home = home

    def _open(self) -> Line:
        line = RemoteLine(
            reader=sys.stdin,
            writer=sys.stdout,
            lease_s=self._lease_s,
            on_command=self._hear,
            on_lost=self._lose,
        )
        try:
            with disk_full(self._home, *self._home.parents):
                self._scratch.mkdir(parents=True, exist_ok=True)
        except (OSError, EngineError) as error:  # Told, and the supervisor says goodbye then.
            line.tell({"attempt": None, **error_event(failure(error))})
        return line

    def _ready(self) -> dict[str, Any]:
        return {"event": "ready", "home": str(self._home), "host": socket.gethostname()}

    def _own(self, job: Job) -> Job:
        return replace(job, scratch=str(self._scratch), cache=str(self._home / "cache"))

    def _say(self, event: dict[str, Any], *, keep: bool = True) -> None:
        """As it is, but for errors: of several hosts, which one has what it says."""
        host = socket.gethostname()
        if event["event"] == "error" and host not in event["message"]:
            event = {**event, "message": f"{host}: {event['message']}"}
        super()._say(event, keep=keep)

    def _grace_s(self, attempt: Attempt) -> float:
        """What ranks save has to be stored before the batch system kills this process too."""
        patience_s = float(os.environ.get("PUSHTRAIN_KILL_WAIT_S", KILL_WAIT_S))
        return min(attempt.grace_s, max(0.7 * patience_s, patience_s - STORED_WITHIN_S))

    def _lose(self) -> None:
        super()._lose()
        threading.Thread(target=self._end_alone, daemon=True).start()

    def _on_lost(self) -> None:
        logger.warning("the supervisor is lost: stopping what it ran here")
        self._lease_ends_s = time.monotonic()

    def _end_alone(self) -> None:
        """The loop may wait for a store or a Docker that is cut off too: ranks end all the same, and so does this."""
        attempt = self._attempt
        if attempt is not None and attempt.kill_at_s is None:
            attempt.stop(grace_s=LEASH_GRACE_S)
        ends_s = time.monotonic() + LEASH_GRACE_S
        while time.monotonic() < max(ends_s, (attempt and attempt.kill_at_s) or 0.0):
            time.sleep(FLUSH_S)
        if attempt is not None and attempt.running:
            attempt.stop(grace_s=0)
        time.sleep(STORED_WITHIN_S)
        logger.error("what was to be stored was not within %.0f s: ending", STORED_WITHIN_S)
        os._exit(1)  # The leash ends what is left.
