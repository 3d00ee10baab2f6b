"""The host process: does what the supervisor says, keeps what the ranks write, and ends them when nobody is left.

Commands in: `ports` (count), `fetch` (a Job), `go`, `stop` (grace_s), `finish` (grace_s), `stacks`, `kill`, `seal`,
`bye`, and what the agents of other nodes want (see calls.py). Events out: `ready`, `ports`, `fetched`, `started`,
`exited` per rank, `stacks`, `sealed` with the manifest, `beat` once a second, `error` with its class, message and tip.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import queue
import signal
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

from runner.host import orphans
from runner.host.faults import error_event, failure, told
from runner.host.launched import LaunchedRank
from runner.host.leash import LEASH_GRACE_S, Leash
from runner.host.line import Line
from runner.host.node import Node
from runner.host.ports import Ports

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from runner.errors import PushtrainError
    from runner.host.calls import Exchange
    from runner.host.job import Job
    from runner.host.ranks import Exit, Rank

logger = logging.getLogger(__name__)

FLUSH_S = 0.1
BEAT_S = 1.0
LOST_GRACE_S = 30.0
# A launcher whose ranks have all ended has nothing left to do; mpirun would sleep for its own grace after a failure.
LAUNCHER_GRACE_S = 0.5


class Service:
    """One node of one run on this host."""

    def __init__(self, scratch: Path, *, lease_s: float) -> None:
        self._scratch, self._lease_s = scratch, lease_s
        self._inbox: queue.Queue[tuple[str, int | None, Any]] = queue.Queue()
        self._attempt: int | None = None
        self._node: Node | None = None
        self._ranks: dict[int, Rank] = {}
        self._kill_at_s: float | None = None
        self._drop_launchers_at_s: float | None = None
        self._stopping = False
        self._to_begin: set[int] = set()
        self._ports = Ports()
        self._exchange: Exchange | None = None
        self._lease_ends_s: float | None = None
        self._leash = Leash()
        self._done = False

    def run(self) -> int:
        """Work until `bye`, or until the lease of a lost supervisor ran out. Returns the exit code."""
        orphans.adopt()
        for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(signum, lambda *_: self._inbox.put(("signal", None, None)))
        self._line = Line(
            self._scratch,
            reader=sys.stdin,
            writer=sys.stdout,
            on_command=lambda message: self._inbox.put(("command", None, message)),
            on_lost=lambda: self._inbox.put(("lost", None, None)),
        )
        self._line.tell({"event": "ready"})
        next_beat_s = time.monotonic()
        while not self._done:
            with contextlib.suppress(queue.Empty):
                kind, attempt, body = self._inbox.get(timeout=FLUSH_S)
                if attempt in (
                    None,
                    self._attempt,
                ):  # What is left of an earlier attempt says nothing of this one.
                    getattr(self, f"_on_{kind}")(body)
            self._flush()
            self._check_deadlines()
            if time.monotonic() >= next_beat_s:
                next_beat_s = time.monotonic() + BEAT_S
                self._beat()
        self._close()
        return 0

    # Messages

    def _posting(self, kind: str) -> Callable[[Any], None]:
        """A function that puts a message of this attempt into the inbox, from any thread."""
        attempt = self._attempt
        return lambda body: self._inbox.put((kind, attempt, body))

    def _tell(self, event: dict[str, Any], *, keep: bool = True) -> None:
        """Tell an event of this attempt."""
        self._line.tell({"attempt": self._attempt, **event}, keep=keep)

    def _on_command(self, message: dict[str, Any]) -> None:
        self._lease_ends_s = None
        op = message["op"]
        if op.startswith("call"):
            if self._exchange is not None:
                self._exchange.take(message)
        else:
            getattr(self, f"_do_{op}")(message)

    def _do_ports(self, message: dict[str, Any]) -> None:
        try:
            self._tell({"event": "ports", "ports": self._ports.choose(message["count"])}, keep=False)
        except OSError as error:
            self._tell(error_event(failure(error)), keep=False)

    def _do_fetch(self, message: dict[str, Any]) -> None:
        from runner.host.job import Job

        self._fetch(Job.from_json(message["job"]))

    def _do_stop(self, message: dict[str, Any]) -> None:
        self._stop(grace_s=message["grace_s"])

    def _do_kill(self, _: dict[str, Any]) -> None:
        self._stop(grace_s=0)

    def _do_stacks(self, _: dict[str, Any]) -> None:
        self._background(self._stacks)

    def _do_seal(self, message: dict[str, Any]) -> None:
        from runner.host.job import Job

        job = Job.from_json(message["job"])
        self._background(lambda: self._seal(job))

    def _do_bye(self, _: dict[str, Any]) -> None:
        self._done = True

    def _on_lost(self, _: None) -> None:
        logger.warning("the supervisor is gone; waiting %.0f s for another", self._lease_s)
        self._lease_ends_s = time.monotonic() + self._lease_s

    def _on_signal(self, _: None) -> None:
        self._stop(grace_s=LOST_GRACE_S)

    def _on_exited(self, body: tuple[int, dict[str, Any]]) -> None:
        rank, event = body
        assert self._node is not None
        if self._ranks[rank].process.kind == "launcher":
            self._abandon()
        with told("log not stored yet"):  # Kept in memory and sent when the store answers again.
            self._node.outputs[rank].flush(last=True)
        with told(f"rank {rank} left something"):  # The supervisor sweeps when the run ends.
            self._ranks.pop(rank).close()
        lines = [*self._node.outputs[rank].last_lines]
        self._report()  # Before its end is told, which may be the last that anybody waits for.
        self._check_idle()
        self._tell({"event": "exited", "rank": rank, "last_lines": lines, **event})

    def _on_begun(self, rank: int) -> None:
        """A launched rank runs."""
        self._to_begin.discard(rank)
        if not self._to_begin:
            self._tell({"event": "started", "at_s": time.time()})

    def _on_idle(self, _: None) -> None:
        """What launchers of other nodes ran here has ended, and with it who would start ranks of this node."""
        self._abandon()
        self._check_idle()

    def _check_idle(self) -> None:
        """Where nothing runs any more: leave nothing behind, and store what was written."""
        if self._ranks or (self._exchange is not None and self._exchange.busy):
            return
        assert self._node is not None
        self._kill_at_s = self._drop_launchers_at_s = None
        with told("ranks left something"):
            self._node.close_ranks()
        self._node.mirror_now()

    def _on_prepared(self, error: PushtrainError | None) -> None:
        assert self._node is not None
        job = self._node.job
        if error is None and any(process.kind != "direct" for process in job.processes):
            from runner.host.calls import Exchange

            post = self._posting("idle")
            calls = job.gang_folder / "calls"
            self._exchange = Exchange(calls, self._node.ranks, tell=self._tell, on_idle=lambda: post(None))
        self._tell(error_event(error) if error is not None else {"event": "fetched"})

    def _on_spoken(self, _: None) -> None:
        """A rank's first line: whoever follows waits for it, and every message is followed by a flush."""

    def _on_told(self, event: dict[str, Any]) -> None:
        self._tell(event)

    # Work

    def _do_go(self, _: dict[str, Any]) -> None:
        assert self._node is not None
        launched = [process for process in self._node.job.processes if process.kind == "launched"]
        self._to_begin = {process.rank for process in launched}
        try:
            self._node.look()
            for process in launched:
                begun = functools.partial(self._posting("begun"), process.rank)
                self._hold(self._node.listen(process, on_begun=begun))
            for rank in self._node.start():
                self._hold(rank)
        except Exception as error:  # noqa: BLE001  # told, and logged: this process must not end before its ranks
            self._stop(grace_s=0)
            self._node.close_ranks()
            self._tell(error_event(failure(error)))
            return
        for stream in self._node.outputs.values():
            stream.last_output_s = time.monotonic()  # Until now they had nothing to say.
        if not launched:
            self._tell({"event": "started", "at_s": time.time()})

    def _disconnect(self) -> None:
        if self._exchange is not None:
            self._exchange.close()
            self._exchange = None

    def _hold(self, rank: Rank) -> None:
        self._ranks[rank.process.rank] = rank
        threading.Thread(target=self._wait, args=(rank, self._posting("exited")), daemon=True).start()

    def _fetch(self, job: Job) -> None:
        """Make ready for an attempt: nothing of an earlier one is left or heard."""
        before = self._node
        if before is not None:
            self._disconnect()
            with told("an earlier attempt left something"):
                before.close()
        self._line.forget()
        self._attempt, self._stopping = job.attempt, False
        self._ranks, self._to_begin = {}, set()
        self._kill_at_s = self._drop_launchers_at_s = None
        post = self._posting("spoken")
        self._node = node = Node(job, on_first_line=lambda: post(None), before=before)
        self._leash.hold(job.mark, in_docker=job.image is not None)
        threading.Thread(target=self._prepare, args=(node, self._posting("prepared")), daemon=True).start()

    def _prepare(self, node: Node, post: Callable[[Any], None]) -> None:
        try:
            node.fetch()
        except Exception as error:  # noqa: BLE001  # a thread's outermost: told, and logged
            post(failure(error))
        else:
            post(None)

    def _wait(self, rank: Rank, post: Callable[[Any], None]) -> None:
        try:
            end = rank.wait()
        except Exception as caught:  # noqa: BLE001  # as above
            error = failure(caught)
            body = {"code": error.exit_code, "signal": "", "cause": str(error)}
        else:
            body = {"code": end.code, "signal": end.signal, "cause": end.cause or self._killed_by(end)}
        # As it was when the rank ended: what is told to the others later is not why.
        body |= {"at_s": time.time(), "stopped": self._stopping}
        post((rank.process.rank, body))

    def _killed_by(self, end: Exit) -> str:
        if end.signal != "SIGKILL" or self._stopping or self._node is None:
            return ""
        kills = self._node.ranks.kernel_kills()
        return "out of memory: the kernel ended it" if kills else "killed from outside"

    def _stacks(self) -> dict[str, Any]:
        assert self._node is not None
        pids = {rank.process.rank: getattr(rank, "pid", None) for rank in self._ranks.values()
                if rank.process.kind != "launcher"}  # fmt: skip
        self._node.write_stacks(pids)
        lines = {rank: [*self._node.outputs[rank].last_lines] for rank in pids}
        return {"event": "stacks", "last_lines": lines}

    def _background(self, work: Callable[[], dict[str, Any]]) -> None:
        post = self._posting("told")

        def guarded() -> None:
            try:
                post(work())
            except Exception as error:  # noqa: BLE001  # as above
                post(error_event(failure(error)))

        threading.Thread(target=guarded, daemon=True).start()

    def _seal(self, job: Job) -> dict[str, Any]:
        if self._node is None:  # The host that ran the ranks died; what it left is sealed by this one.
            self._node = Node(job)
            self._node.fetch()
        return {"event": "sealed", **self._node.seal()}

    def _stop(self, *, grace_s: float) -> None:
        """Ask all ranks to end, once, or end them. A launcher is left to its ranks as long as any of them runs."""
        asked, self._stopping = self._stopping, True
        if grace_s <= 0:
            self._end_at_once()
        elif not asked:
            self._ask_to_end()
        if self._ranks:
            deadline_s = time.monotonic() + grace_s
            self._kill_at_s = min(deadline_s, self._kill_at_s or deadline_s)

    def _ask_to_end(self) -> None:
        """SIGTERM, which a rank gets once: a second one would break off what it saves."""
        has_begun = any(getattr(rank, "begun", False) for rank in self._ranks.values())
        for rank in self._ranks.values():
            if rank.process.kind != "launcher" or not has_begun:
                rank.signal(signal.SIGTERM)
        self._abandon(begun=False)

    def _end_at_once(self) -> None:
        for rank in self._ranks.values():
            rank.signal(signal.SIGKILL)
        self._abandon()
        if self._exchange is not None:
            self._exchange.kill()

    def _do_finish(self, message: dict[str, Any]) -> None:
        """All ranks that the attempt waits for have ended, on every node: end the others and the launchers."""
        self._drop_launchers_at_s = time.monotonic() + LAUNCHER_GRACE_S
        if any(rank.process.daemon for rank in self._ranks.values()):
            self._stop(grace_s=message["grace_s"])

    def _drop_launchers(self) -> None:
        self._drop_launchers_at_s = None
        for rank in self._ranks.values():
            if rank.process.kind == "launcher":
                rank.signal(signal.SIGKILL)
        self._abandon()
        if self._exchange is not None:
            self._exchange.kill()

    def _abandon(self, *, begun: bool = True) -> None:
        """Wait no longer for ranks that no launcher will start, or only for those that have not `begun`."""
        for rank in self._ranks.values():
            if isinstance(rank, LaunchedRank) and (begun or not rank.begun):
                rank.abandon()

    def _check_deadlines(self) -> None:
        now_s = time.monotonic()
        if not self._line.lost:
            self._lease_ends_s = None
        if self._drop_launchers_at_s is not None and now_s >= self._drop_launchers_at_s:
            self._drop_launchers()
        if self._kill_at_s is not None and now_s >= self._kill_at_s:
            self._end_at_once()
            self._kill_at_s = now_s + BEAT_S
        if self._lease_ends_s is not None and self._line.lost and now_s >= self._lease_ends_s:
            if not self._ranks:
                self._done = True
            elif self._kill_at_s is None:
                logger.warning("nobody took the run over: stopping its ranks")
                self._line.close()  # Whoever came now would take their end for a failure of the training.
                self._stop(grace_s=LEASH_GRACE_S)

    def _flush(self) -> None:
        if self._node is None:
            return
        for stream in self._node.outputs.values():
            with told("log not stored yet"):
                stream.flush()

    def _beat(self) -> None:
        streams = self._node.outputs.values() if self._node is not None else ()
        latest_s = max((s.last_output_s for s in streams), default=time.monotonic())
        silent_s = time.monotonic() - latest_s if self._ranks else 0.0
        self._tell({"event": "beat", "silent_s": silent_s}, keep=False)
        self._report()
        if (
            self._node is not None and self._inbox.empty()
        ):  # Ends that wait to be heard may be by what was lately.
            self._node.look()

    def _report(self) -> None:
        """Tell what the Python inside the ranks noticed."""
        if self._node is None:
            return
        for rank, line in self._node.reports.weights():
            self._tell({"event": "weights", "rank": rank, "report": line}, keep=False)
        shared = self._node.reports.shared()
        if shared is not None:
            self._tell({"event": "shared", "sentences": shared})

    def _close(self) -> None:
        self._line.close()
        self._disconnect()
        self._ports.close()
        if self._node is not None:
            self._node.close()
        self._leash.drop()
