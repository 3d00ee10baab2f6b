"""A Job -> one attempt of a run on this host: its node's ranks from their files to the end of the last of them."""

from __future__ import annotations

import functools
import signal
import threading
import time
from typing import TYPE_CHECKING, Any

from runner.host.faults import disk_filled, error_event, failure, told
from runner.host.launched import LaunchedRank
from runner.host.node import Node

if TYPE_CHECKING:
    from collections.abc import Callable

    from runner.errors import PushtrainError
    from runner.host.calls import Exchange
    from runner.host.gpu_use import GpuUse
    from runner.host.job import Job
    from runner.host.ranks import Exit, Rank

KILL_AGAIN_S = 1.0
# A launcher whose ranks have all ended has nothing left to do; mpirun would sleep for its own grace after a failure.
LAUNCHER_GRACE_S = 0.5


class Attempt:
    """Everything of it is called by the host's only loop, but `stop`, which any thread may call.

    `tell(event, keep=)` tells the supervisor. `post(act)` is called from threads and has the loop call `act`, unless a
    later attempt has begun by then. `gpu_use` looks at the job's GPUs, `before` is the attempt before on this host.
    `on_makes` is told whether Docker is making something for it.
    """

    def __init__(
        self,
        job: Job,
        *,
        tell: Callable[..., None],
        post: Callable[[Attempt, Callable[[], None]], None],
        gpu_use: GpuUse,
        before: Attempt | None = None,
        on_makes: Callable[[bool], None] = lambda _: None,
    ) -> None:
        self.number = job.attempt
        self._tell_all, self._post_all = tell, post
        self._lock = threading.RLock()
        self._ranks: dict[int, Rank] = {}
        self._to_begin: set[int] = set()
        self._stopping = False
        self._kill_at_s: float | None = None
        self._drop_launchers_at_s: float | None = None
        self._exchange: Exchange | None = None
        self._node: Node = Node(
            job,
            # Whoever follows waits for a rank's first line, and every message to the loop is followed by a flush.
            on_first_line=lambda: self._post(lambda: None),
            on_progress=lambda event: self._tell({"event": "progress", **event}, keep=False),
            gpu_use=gpu_use,
            on_stored=lambda: self._post(lambda: self._tell({"event": "stored"})),
            before=before._node if before is not None else None,
            on_makes=on_makes,
        )

    @property
    def running(self) -> bool:
        """Whether any rank has not ended."""
        return bool(self._ranks)

    @property
    def grace_s(self) -> float:
        """How long the run's ranks may take to end when they are asked to."""
        return self._node.job.grace_s

    @property
    def kill_at_s(self) -> float | None:
        """When ranks that were asked to end are killed; None where none was asked."""
        return self._kill_at_s

    # Commands

    def fetch(self) -> None:
        """Make ready, in a thread of its own; `fetched` or `error` is told."""
        threading.Thread(target=self._prepare, daemon=True).start()

    def go(self) -> None:
        """Start the ranks; `started` or `error` is told."""
        launched = [process for process in self._node.job.processes if process.kind == "launched"]
        self._to_begin = {process.rank for process in launched}
        try:
            self._node.look()
            for process in launched:
                begun = functools.partial(self._post, functools.partial(self._on_begun, process.rank))
                self._hold(self._node.listen(process, on_begun=begun))
            for rank in self._node.start():
                self._hold(rank)
        except Exception as error:  # noqa: BLE001  # told, and logged: this process must not end before its ranks
            self.stop(grace_s=0)
            with told("ranks that did not start left something"):  # The supervisor sweeps when the run ends.
                self._node.close_ranks()
            self._tell(error_event(failure(error)))
            return
        for stream in self._node.outputs.values():
            stream.last_output_s = time.monotonic()  # Until now they had nothing to say.
        if not launched:
            self._tell({"event": "started", "at_s": time.time()})

    def stop(self, *, grace_s: float) -> None:
        """Ask all ranks to end, once, or end them. A launcher is left to its ranks as long as any of them runs."""
        with self._lock:
            asked, self._stopping = self._stopping, True
            if grace_s <= 0:
                self._end_at_once()
            elif not asked:
                self._ask_to_end()
            if self._ranks:
                deadline_s = time.monotonic() + grace_s
                self._kill_at_s = min(deadline_s, self._kill_at_s or deadline_s)

    def prolong(self, *, grace_s: float) -> None:
        """Give ranks that were asked to end so long from now, where they had less."""
        with self._lock:
            if self._kill_at_s is not None:
                self._kill_at_s = max(self._kill_at_s, time.monotonic() + grace_s)

    def finish(self, *, grace_s: float) -> None:
        """All ranks that the attempt waits for have ended, on every node: end the others and the launchers."""
        self._drop_launchers_at_s = time.monotonic() + LAUNCHER_GRACE_S
        if any(rank.process.daemon for rank in self._ranks.values()):
            self.stop(grace_s=grace_s)

    def call(self, message: dict[str, Any]) -> None:
        """What the supervisor passes on from other nodes."""
        if self._exchange is not None:
            self._exchange.take(message)

    def stacks(self) -> None:
        """Look at what the ranks do, in a thread of its own; `stacks` is told."""
        self._background(self._write_stacks)

    def seal(self) -> None:
        """Seal what the ranks wrote, in a thread of its own; `sealed` or `error` is told."""
        self._background(lambda: {"event": "sealed", **self._node.seal()})

    def seal_anew(self) -> None:
        """The same on a host that did not run the ranks: the one that did has died."""

        def work() -> dict[str, Any]:
            self._node.fetch()
            return {"event": "sealed", **self._node.seal()}

        self._background(work)

    # What the loop does by itself

    def check_deadlines(self, now_s: float) -> None:
        """End what had its time."""
        if self._drop_launchers_at_s is not None and now_s >= self._drop_launchers_at_s:
            self._drop_launchers()
        if self._kill_at_s is not None and now_s >= self._kill_at_s:
            with self._lock:
                self._end_at_once()
                self._kill_at_s = now_s + KILL_AGAIN_S

    def flush(self) -> None:
        """Store what the ranks printed."""
        for stream in self._node.outputs.values():
            with told("log not stored yet"):
                stream.flush()

    def silent_s(self) -> float:
        """For how long no rank that runs has said anything."""
        now_s = time.monotonic()
        latest_s = max((stream.last_output_s for stream in self._node.outputs.values()), default=now_s)
        return now_s - latest_s if self._ranks else 0.0

    def report(self) -> None:
        """Tell what the Python inside the ranks noticed."""
        for rank, line in self._node.reports.weights():
            self._tell({"event": "weights", "rank": rank, "report": line}, keep=False)
        shared = self._node.reports.shared()
        if shared is not None:
            self._tell({"event": "shared", "sentences": shared})

    def look(self) -> None:
        """Take note of what goes on, once a second."""
        self._node.look()

    def disconnect(self) -> None:
        """Listen to no launcher any more. Safe to repeat."""
        if self._exchange is not None:
            self._exchange.close()
            self._exchange = None

    def close(self) -> None:
        """Stop keeping, leave nothing behind. Safe to repeat."""
        self.disconnect()
        with told("an attempt left something"):  # The supervisor sweeps when the run ends.
            self._node.close()

    # What threads post

    def _on_prepared(self, error: PushtrainError | None) -> None:
        job = self._node.job
        if error is None and any(process.kind != "direct" for process in job.processes):
            from runner.host.calls import Exchange

            self._exchange = Exchange(
                job.gang_folder / "calls",
                self._node.ranks,
                tell=self._tell,
                on_idle=lambda: self._post(self._on_idle),
            )
        self._tell(error_event(error) if error is not None else {"event": "fetched"})

    def _on_begun(self, rank: int) -> None:
        """A launched rank runs."""
        self._to_begin.discard(rank)
        if not self._to_begin:
            self._tell({"event": "started", "at_s": time.time()})

    def _on_idle(self) -> None:
        """What launchers of other nodes ran here has ended, and with it who would start ranks of this node."""
        self._abandon()
        self._check_idle()

    def _on_exited(self, rank: int, event: dict[str, Any]) -> None:
        if self._ranks[rank].process.kind == "launcher":
            self._abandon()
        with told("log not stored yet"):  # Kept in memory and sent when the store answers again.
            self._node.outputs[rank].flush(last=True)
        with self._lock:
            ended = self._ranks.pop(rank)
        with told(f"rank {rank} left something"):  # The supervisor sweeps when the run ends.
            ended.close()
        lines = [*self._node.outputs[rank].last_lines]
        if event["code"]:
            event["cause"] = event["cause"] or disk_filled(lines, self._node.job.work)
        self.report()  # Before its end is told, which may be the last that anybody waits for.
        self._check_idle()
        self._tell({"event": "exited", "rank": rank, "last_lines": lines, **event})

    def _check_idle(self) -> None:
        """Where nothing runs any more: leave nothing behind, and store what was written."""
        if self._ranks or (self._exchange is not None and self._exchange.busy):
            return
        self._kill_at_s = self._drop_launchers_at_s = None
        with told("ranks left something"):
            self._node.close_ranks()
        self._node.mirror_now()

    # Threads

    def _prepare(self) -> None:
        try:
            self._node.fetch()
        except Exception as error:  # noqa: BLE001  # a thread's outermost: told, and logged
            self._post(functools.partial(self._on_prepared, failure(error)))
        else:
            self._post(functools.partial(self._on_prepared, None))

    def _wait(self, rank: Rank) -> None:
        try:
            end = rank.wait()
        except Exception as caught:  # noqa: BLE001  # as above
            error = failure(caught)
            # Not the training's fault: its Docker is gone, or its container was taken away.
            body = {"code": error.exit_code, "signal": "", "cause": str(error), "lost": True}
        else:
            body = {"code": end.code, "signal": end.signal, "cause": end.cause or self._killed_by(end)}
        # As it was when the rank ended: what is told to the others later is not why.
        body |= {"at_s": time.time(), "stopped": self._stopping}
        self._post(functools.partial(self._on_exited, rank.process.rank, body))

    def _killed_by(self, end: Exit) -> str:
        if end.signal != "SIGKILL" or self._stopping:
            return ""
        kills = self._node.ranks.kernel_kills()
        return "out of memory: the kernel ended it" if kills else "killed from outside"

    def _write_stacks(self) -> dict[str, Any]:
        pids = {rank.process.rank: getattr(rank, "pid", None) for rank in tuple(self._ranks.values())
                if rank.process.kind != "launcher"}  # fmt: skip
        self._node.write_stacks(pids)
        lines = {rank: [*self._node.outputs[rank].last_lines] for rank in pids}
        return {"event": "stacks", "last_lines": lines}

    def _background(self, work: Callable[[], dict[str, Any]]) -> None:
        def guarded() -> None:
            try:
                event = work()
            except Exception as error:  # noqa: BLE001  # as above
                event = error_event(failure(error))
            self._post(functools.partial(self._tell, event))

        threading.Thread(target=guarded, daemon=True).start()

    def _hold(self, rank: Rank) -> None:
        with self._lock:
            self._ranks[rank.process.rank] = rank
        threading.Thread(target=self._wait, args=(rank,), daemon=True).start()

    # Ends, under the lock

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

    def _tell(self, event: dict[str, Any], *, keep: bool = True) -> None:
        self._tell_all({"attempt": self.number, **event}, keep=keep)

    def _post(self, act: Callable[[], None]) -> None:
        self._post_all(self, act)
