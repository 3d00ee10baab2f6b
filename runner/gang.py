"""One attempt of a gang on its hosts: all ranks start or none, the first failure stops the others."""

from __future__ import annotations

import queue
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from runner import errors

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from runner.host.channel import Channel, Event
    from runner.host.job import Job
    from runner.plan import Limits

POLL_S = 0.1


class Interrupts(Protocol):
    """Whether somebody wants the run to end."""

    @property
    def how(self) -> str | None:
        """None, `stop` or `kill`."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How an attempt ended. `kind` is succeeded, failed, lost (a host died), timeout or cancelled."""

    kind: str
    code: int = 0
    signal: str = ""
    failed_rank: int | None = None
    cause: str = ""
    last_lines: tuple[str, ...] = ()


class Gang:
    """Drives the hosts of one attempt; events come from `inbox` as `(node_rank, event)`.

    `ranks` are those whose end the attempt waits for, by node; daemons are not among them.
    """

    def __init__(
        self,
        channels: Mapping[int, Channel],
        inbox: queue.Queue[tuple[int, Event]],
        *,
        ranks: Mapping[int, frozenset[int]],
        limits: Limits,
        interrupts: Interrupts,
    ) -> None:
        self._channels, self._inbox = channels, inbox
        self._limits, self._interrupts = limits, interrupts
        self._fetched: set[int] = set()
        self._started_at_s: dict[int, float] = {}
        self._refused: set[int] = set()
        self._going = False
        self._lost: set[int] = set()
        self._left = {node: set(mine) for node, mine in ranks.items()}
        self._adopted: set[int] = set()
        self._starting = False
        self._silent_s: dict[int, float] = {}
        self._outcome: Outcome | None = None
        self._error: errors.PushtrainError | None = None
        self._stop_sent: str | None = None
        self._running_since_s: float | None = None

    def start(self, jobs: Mapping[int, Job]) -> None:
        """Tell every host to fetch what it needs; they start together once all have it."""
        self._starting = True
        for node, channel in self._channels.items():
            channel.send("fetch", job=jobs[node].to_json())

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
        if self._error is not None:
            raise self._error
        return self._outcome or Outcome(kind="succeeded")

    def _take(self, *, timeout_s: float) -> None:
        try:
            node, event = self._inbox.get(timeout=timeout_s)
        except queue.Empty:
            return
        handler = getattr(self, f"_on_{event['event']}", None)
        if handler is not None:
            handler(node, event)

    def _ended(self) -> bool:
        if not self._going and (self._error is not None or self._outcome is not None):
            return True
        # Once told to go, a host starts its ranks and tells how each ended, unless it refuses or dies.
        waiting = set(self._channels) - self._lost - self._refused
        return all(not self._left[node] for node in waiting)

    # Events

    def _on_fetched(self, node: int, _: Event) -> None:
        self._fetched.add(node)
        if not self._starting:
            return  # Told again to a supervisor that takes over: these ranks were started long ago.
        if len(self._fetched) == len(self._channels) and self._outcome is None and self._error is None:
            self._going = True
            for channel in self._channels.values():
                channel.send("go")

    def _on_started(self, node: int, event: Event) -> None:
        self._started_at_s[node] = event["at_s"]

    def _on_adopted(self, node: int, _: Event) -> None:
        self._adopted.add(node)

    def _on_beat(self, node: int, event: Event) -> None:
        self._silent_s[node] = event["silent_s"]

    def _on_exited(self, node: int, event: Event) -> None:
        self._left[node].discard(event["rank"])
        if event["code"] != 0:
            self._fail(
                Outcome(
                    kind="failed",
                    code=event["code"],
                    signal=event["signal"],
                    failed_rank=event["rank"],
                    cause=event["cause"],
                    last_lines=tuple(event["last_lines"]),
                )
            )

    def _on_error(self, node: int, event: Event) -> None:
        self._refused.add(node)
        kind = getattr(errors, event["class"], errors.EngineError)
        if self._error is None:
            self._error = kind(event["message"], tip=event["tip"])
        self._halt()

    def _on_lost(self, node: int, _: Event) -> None:
        self._lost.add(node)
        self._fail(
            Outcome(
                kind="lost", code=errors.EngineError.exit_code, cause=f"the host process of node {node} died"
            )
        )

    # Ends

    def _check_limits(self) -> None:
        if self._running_since_s is None or self._outcome is not None:
            return
        run_s, silence_s = self._limits.run_s, self._limits.silence_s
        if run_s is not None and time.monotonic() - self._running_since_s > run_s:
            self._fail(
                Outcome(kind="timeout", code=75, cause=f"timeout.run: it ran for more than {run_s:g} s")
            )
        # A host whose ranks have ended is silent for no time.
        silent_s = min((s for node, s in self._silent_s.items() if self._left[node]), default=0.0)
        if silence_s is not None and silent_s > silence_s:
            self._fail(
                Outcome(kind="timeout", code=75, cause=f"timeout.silence: no output for {silent_s:.0f} s")
            )

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
        for channel in self._channels.values():
            channel.send("stop", grace_s=grace_s)
