"""One attempt of a gang on its hosts: all ranks start or none, the first failure stops the others."""

from __future__ import annotations

import contextlib
import queue
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

from runner import agreement, blame, errors, idle
from runner.blame import Failure
from runner.switchboard import EVENTS, Switchboard

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from runner.agreement import Agreement
    from runner.host.channel import Channel, Event
    from runner.host.job import Job
    from runner.launch import Process
    from runner.plan import Limits

POLL_S = 0.1
# For so long hosts may look at what their silent ranks do.
STACKS_WITHIN_S = 30.0
# Daemons and launchers that do not end are ended by their host; after this nobody waits for them.
REST_WITHIN_S = 10.0
# A host that stores what its ranks wrote last may be busy; what a host that is ended had not stored is sealed later.
ANSWERS_WITHIN_S = 120.0


class Interrupts(Protocol):
    """Whether somebody wants the run to end."""

    @property
    def how(self) -> str | None:
        """None, `stop` or `kill`."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How an attempt ended. `kind` is succeeded, failed, diverged, idle (its GPUs were), lost (a host died), timeout
    or cancelled."""

    kind: str
    code: int = 0
    signal: str = ""
    failed_rank: int | None = None
    failed_node: int | None = None
    failed_task: str = ""
    cause: str = ""
    last_lines: tuple[str, ...] = ()


class Gang:
    """Drives the hosts of one attempt; events come from `inbox` as `(node_rank, event)`.

    The attempt lasts until all awaited `processes` ended; then daemons and launchers are ended. `names` are those by
    which launchers call nodes. With `least_nodes` it goes on when other nodes than the first are lost, as long as so
    many are left. `weights` compares those of the ranks, `divergence` is what follows when they differ. `warn` is
    told at once what cannot wait for the end of the attempt, `progress` how far a host is with what it fetches.
    """

    def __init__(
        self,
        channels: Mapping[int, Channel],
        inbox: queue.Queue[tuple[int, Event]],
        *,
        processes: tuple[Process, ...],
        limits: Limits,
        interrupts: Interrupts,
        names: Mapping[str, int] | None = None,
        least_nodes: int | None = None,
        weights: Agreement | None = None,
        divergence: Literal["fail", "warn", "ignore"] = "ignore",
        attempt: int | None = None,
        warn: Callable[[Sequence[str]], None] = lambda _: None,
        progress: Callable[[int, Event], None] = lambda *_: None,
    ) -> None:
        self._on_progress = progress
        self._channels, self._inbox, self._attempt = channels, inbox, attempt
        self._limits, self._interrupts = limits, interrupts
        self._processes = {process.rank: process for process in processes}
        self._switchboard = Switchboard(channels, names=names or {})
        self._least_nodes = least_nodes or len(channels)
        self._agreement, self._divergence = weights, divergence
        self._idle, self._warn = idle.Watch(processes, limits), warn
        self._warnings: list[str] = []
        self._shared: dict[int, tuple[str, ...]] = {}
        self._fetched: set[int] = set()
        self._waiting: dict[int, Job] = {}
        self._started_at_s: dict[int, float] = {}
        self._refused: set[int] = set()
        self._going = False
        self._lost: set[int] = set()
        self._left: dict[int, set[int]] = {node: set() for node in channels}
        self._rest: dict[int, set[int]] = {node: set() for node in channels}
        for process in processes:
            if process.node_rank not in channels:
                continue  # Its node was lost under an earlier supervisor.
            (self._left if process.awaited else self._rest)[process.node_rank].add(process.rank)
        self._failures: list[Failure] = []
        self._launchers_said: tuple[str, ...] = ()
        self._finish_by_s: float | None = None
        self._stacks_by_s: float | None = None
        self._stacks: set[int] = set()
        self._said: dict[int, list[str]] = {}
        self._adopted: set[int] = set()
        self._starting = False
        self._silent_s: dict[int, float] = {}
        self._outcome: Outcome | None = None
        self._error: errors.PushtrainError | None = None
        self._stop_sent: str | None = None
        self._gone_at_s: float | None = None
        self._ends_by_s: float | None = None
        self._heard_at_s: dict[int, float] = {}
        self._running_since_s: float | None = None

    @property
    def warnings(self) -> tuple[str, ...]:
        """What whoever asked for the run should know of this attempt, so far."""
        return (*self._warnings, *(each for node in sorted(self._shared) for each in self._shared[node]))

    def start(self, jobs: Mapping[int, Job]) -> None:
        """Tell every host to fetch what it needs, node 0 first where others follow it; all start once all have it."""
        self._starting = True
        self._waiting = {node: jobs[node] for node in self._channels if jobs[node].follows}
        for node in self._channels.keys() - self._waiting:
            self._channels[node].send("fetch", job=jobs[node].to_json())

    def adopt(self) -> bool:
        """Hear what the hosts of an earlier supervisor did; whether all of their ranks were started."""
        deadline_s = time.monotonic() + 10.0
        while len(self._adopted | self._lost) < len(self._channels) and time.monotonic() < deadline_s:
            self._take(timeout_s=POLL_S)
        self._going = bool(self._started_at_s)
        return len(self._started_at_s) == len(self._channels) and not self._lost

    def follow(self, on_started: Callable[[], None]) -> Outcome:
        """Block until every rank ended. Raises the error of a host that could not fetch or start."""
        announced = False
        while not self._ended():
            self._take(timeout_s=POLL_S)
            if not announced and len(self._started_at_s) == len(self._channels):
                # By the hosts' clock: a supervisor that took over counts from when the ranks were started.
                ran_s = max(0.0, time.time() - max(self._started_at_s.values()))
                self._running_since_s = time.monotonic() - ran_s
                announced = True
                on_started()
            self._check_limits()
            self._check_interrupts()
            self._check_answers()
            self._check_end()
        if self._error is not None:
            raise self._error
        return self._judged() or Outcome(kind="succeeded")

    def _take(self, *, timeout_s: float) -> None:
        try:
            node, event = self._inbox.get(timeout=timeout_s)
        except queue.Empty:
            return
        if event.get("attempt") not in (None, self._attempt) and self._attempt is not None:
            return  # Left over from an attempt before.
        self._heard_at_s[node] = time.monotonic()
        if event["event"] in EVENTS:
            self._switchboard.pass_on(node, event, again=not self._starting and node not in self._adopted)
            return
        handler = getattr(self, f"_on_{event['event']}", None)
        if handler is not None:
            handler(node, event)

    def _ended(self) -> bool:
        if not self._going and (self._error is not None or self._outcome is not None):
            return True
        if self._finish_by_s is None:
            return False
        left = [node for node in self._there() if self._rest[node]]
        return not left or time.monotonic() > self._finish_by_s

    def _there(self) -> set[int]:
        """Once told to go, a host starts its ranks and tells how each ended, unless it refuses or dies."""
        return set(self._channels) - self._lost - self._refused

    def _check_end(self) -> None:
        """Where all ranks ended that the attempt waits for: end the daemons and the launchers, on every node."""
        if self._finish_by_s is None and all(not self._left[node] for node in self._there()):
            self._finish_by_s = time.monotonic() + self._limits.grace_s + REST_WITHIN_S
            if any(self._rest.values()):
                self._tell("finish", grace_s=self._limits.grace_s)

    def _judged(self) -> Outcome | None:
        """The outcome, with the rank that failed for a reason of its own where several did."""
        if self._outcome is None or self._outcome.kind != "failed" or not self._failures:
            return self._outcome
        first = blame.first(self._failures)
        if lost := blame.lost_node(first, self._launchers_said):
            cause = f"mpirun lost {lost}: its daemon or its container was ended from outside"
            return Outcome(kind="lost", code=errors.EngineError.exit_code, cause=cause)
        process = self._processes.get(first.rank)
        return Outcome(
            kind="failed",
            code=first.code,
            signal=first.signal,
            failed_rank=first.rank if first.kind == "rank" else None,
            failed_node=process.node_rank if process is not None and len(self._channels) > 1 else None,
            failed_task=process.task if process is not None else "",
            cause=first.cause,
            last_lines=first.last_lines,
        )

    @property
    def nodes_left(self) -> int:
        """How many nodes were not lost so far."""
        return len(self._channels) - len(self._lost)

    # Events

    def _on_stored(self, _: int, __: Event) -> None:
        waiting, self._waiting = self._waiting, {}
        for node, job in waiting.items():
            self._channels[node].send("fetch", job=job.to_json())

    def _on_fetched(self, node: int, event: Event) -> None:
        self._fetched.add(node)
        self._on_stored(node, event)  # A host of an older version does not say so before.
        if not self._starting:
            return  # Told again to a supervisor that takes over: these ranks were started long ago.
        ready = len(self._fetched) == len(self._channels) and self._outcome is None and self._error is None
        if ready and not self._going:
            self._going = True
            self._gone_at_s = time.monotonic()
            for channel in self._channels.values():
                channel.send("go")

    def _on_started(self, node: int, event: Event) -> None:
        self._started_at_s[node] = event["at_s"]

    def _on_adopted(self, node: int, _: Event) -> None:
        self._adopted.add(node)

    def _on_beat(self, node: int, event: Event) -> None:
        self._silent_s[node] = event["silent_s"]
        used = event.get("gpu_util") if self._running_since_s is not None else None
        found = self._idle.add(node, used, now_s=time.monotonic()) if used else None
        if found is not None and found.stops:
            self._fail(Outcome(kind="idle", code=1, cause=found.sentence))
        told = found.sentence if found is not None and not found.stops else ""
        if warning := told or self._idle.unread(event.get("gpu_unread", "")):
            self._warnings.append(warning)
            with contextlib.suppress(errors.StoreError):  # Then it is told at the end.
                self._warn((warning,))

    def _on_exited(self, node: int, event: Event) -> None:
        rank = event["rank"]
        self._left[node].discard(rank)
        self._rest[node].discard(rank)
        kind = self._processes[rank].kind if rank in self._processes else "direct"
        if kind == "launcher":
            self._launchers_said += tuple(event["last_lines"])
        if event["code"] == 0 or self._finish_by_s is not None:
            return
        failure = Failure(
            rank=rank,
            kind="launcher" if kind == "launcher" else "rank",
            at_s=event["at_s"],
            code=event["code"],
            signal=event["signal"],
            cause=event["cause"],
            last_lines=tuple(event["last_lines"]),
            told_to_stop=event["stopped"],
        )
        if event.get("lost"):  # With its host's Docker: no end of its own.
            self._fail(Outcome(kind="lost", code=failure.code, cause=failure.cause))
            return
        self._failures.append(failure)
        self._fail(Outcome(kind="failed", code=failure.code, signal=failure.signal))

    def _on_stacks(self, node: int, event: Event) -> None:
        self._stacks.add(node)
        self._said |= {int(rank): lines for rank, lines in event["last_lines"].items()}

    def _on_weights(self, _: int, event: Event) -> None:
        """What a rank's weights are like; where ranks differ, `distribution.divergence` says what follows."""
        told = agreement.report(event["report"])
        if told is None or self._agreement is None:
            return
        found = self._agreement.add(event["rank"], told)
        if found is None:
            return
        self._agreement = None  # Said once.
        if self._divergence == "fail":
            self._fail(Outcome(kind="diverged", code=1, cause=f"{found.message}; {found.tip}"))
        else:
            self._warnings.append(f"{found.message}; {found.tip}")

    def _on_shared(self, node: int, event: Event) -> None:
        """Ranks of a node wrote one file: all such files so far."""
        self._shared[node] = tuple(event["sentences"])

    def _on_error(self, node: int, event: Event) -> None:
        self._refused.add(node)
        kind = getattr(errors, event["class"], errors.EngineError)
        if self._error is None:
            self._error = kind(event["message"], tip=event["tip"])
        self._halt()

    def _on_lost(self, node: int, event: Event) -> None:
        if self._channels[node].alive:
            return  # That was the host of an attempt before.
        self._lost.add(node)
        if self._can_do_without(node):
            self._warnings.append(f"node {node} was lost; its ranks are missing from then on")
            return
        why = event.get("why") or f"the host process of node {node} died"
        self._fail(Outcome(kind="lost", code=errors.EngineError.exit_code, cause=why))

    def _can_do_without(self, node: int) -> bool:
        """An elastic gang meets at its first node."""
        return node != 0 and self._going and len(self._channels) - len(self._lost) >= self._least_nodes

    # Ends

    def _check_limits(self) -> None:
        """Both limits count from the moment in which ranks were to start: a launcher may never start them."""
        since_s = self._running_since_s or self._gone_at_s
        if since_s is None or self._outcome is not None:
            return
        if cause := self._over(time.monotonic() - since_s):
            self._fail(Outcome(kind="timeout", code=75, cause=cause))
        silence_s = self._limits.silence_s
        # A host whose ranks have ended is silent for no time.
        waited = [self._silent_s.get(node, 0.0) for node in self._there() if self._left[node]]
        silent_s = min(waited, default=0.0)
        if silence_s is None or silent_s <= silence_s:
            self._stacks_by_s, self._stacks, self._said = None, set(), {}
        elif self._have_stacks():
            self._fail(Outcome(kind="timeout", code=75, cause=blame.silence(silent_s, self._said)))

    def _over(self, ran_s: float) -> str:
        budget_s, run_s = self._limits.budget_s, self._limits.run_s
        if budget_s is not None and ran_s > budget_s:
            return f"policy.max_gpu_hours: they are used up, {budget_s:g} s of each GPU by this attempt"
        return f"timeout.run: it ran for more than {run_s:g} s" if run_s is not None and ran_s > run_s else ""

    def _check_answers(self) -> None:
        """Give up hosts that were to end their ranks long ago and say nothing any more; their leash ends the ranks."""
        now_s = time.monotonic()
        if self._ends_by_s is None or now_s < self._ends_by_s + ANSWERS_WITHIN_S:
            return
        for node in [node for node in self._there() if self._left[node] or self._rest[node]]:
            if now_s - self._heard_at_s.get(node, 0.0) > ANSWERS_WITHIN_S:
                self._lost.add(node)
                self._warnings.append(
                    f"the host process of node {node} did not answer any more and was ended"
                )
                self._channels[node].kill()

    def _have_stacks(self) -> bool:
        """Whether every host looked what its silent ranks do, as far as they can be waited for."""
        if self._stacks_by_s is None:
            self._stacks_by_s = time.monotonic() + STACKS_WITHIN_S
            self._tell("stacks")
        return self._there() <= self._stacks or time.monotonic() > self._stacks_by_s

    def _check_interrupts(self) -> None:
        how = self._interrupts.how
        if how is None or how == self._stop_sent:
            return
        asked_before = self._stop_sent is not None
        self._outcome = self._outcome or Outcome(
            kind="cancelled", code=errors.Cancelled("").code, cause="cancelled"
        )
        self._stop_sent = how
        if how == "kill":
            self._stop(grace_s=0.0)
        elif not asked_before:  # A second SIGTERM would break off the saving that the first began.
            self._stop(grace_s=self._limits.grace_s)

    def _fail(self, outcome: Outcome) -> None:
        """Remember the first failure only: the others die because of it."""
        if self._outcome is None and self._error is None:
            self._outcome = outcome
            self._halt()

    def _halt(self) -> None:
        """Ask all ranks to end, once: a second SIGTERM would break off what they save."""
        if self._stop_sent is None:
            self._stop_sent = "failure"
            self._stop(grace_s=self._limits.grace_s)

    def _stop(self, *, grace_s: float) -> None:
        self._ends_by_s = time.monotonic() + grace_s
        self._tell("stop", grace_s=grace_s)

    def _tell(self, op: str, **fields: object) -> None:
        for channel in self._channels.values():
            channel.send(op, **fields)
