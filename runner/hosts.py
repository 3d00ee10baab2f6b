"""The lines to the hosts of one gang: opened, taken over from an earlier supervisor, closed."""

from __future__ import annotations

import queue
import time
from typing import TYPE_CHECKING

from runner import errors
from runner.errors import Cancelled, EngineError, HostLost
from runner.jobs import scratch

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from runner.engines import Engine
    from runner.gang import Interrupts
    from runner.host.channel import Channel, Event
    from runner.host.job import Job

POLL_S = 0.5
PORTS_WITHIN_S = 60.0


class Hosts:
    """One channel per node; all their events arrive in `inbox`."""

    def __init__(self, engine: Engine, *, home: Path, run_id: str, nodes: int) -> None:
        self._engine, self._home, self._id, self._nodes = engine, home, run_id, nodes
        self.channels: dict[int, Channel] = {}
        self.inbox: queue.Queue[tuple[int, Event]] = queue.Queue()

    def adopt(self, *, least: int | None = None) -> bool:
        """Take over the hosts that an earlier supervisor left; whether all, or the first and the `least`, are there."""
        for node in range(self._nodes):
            folder = scratch(self._home, self._id, node)
            channel = self._engine.adopt(node, self.inbox, scratch=folder)
            if channel is not None:
                self.channels[node] = channel
        return 0 in self.channels and len(self.channels) >= (least or self._nodes)

    def open(self) -> None:
        """A line to every host. Hosts of an earlier attempt that still live are kept. Safe to repeat."""
        for node in range(self._nodes):
            if node in self.channels and self.channels[node].alive:
                continue
            folder = scratch(self._home, self._id, node)
            self.channels[node] = self._engine.open(node, self.inbox, scratch=folder)

    def limit(self, nodes: int) -> None:
        """An elastic gang got only so many nodes: the hosts of the others end. Safe to repeat."""
        self._nodes = nodes
        for node in [node for node in self.channels if node >= nodes]:
            self.channels.pop(node).close()

    def ports(self, count: int) -> dict[int, tuple[int, ...]]:
        """So many free ports of every node, held for it from now on. Raises EngineError where no host answers."""
        for channel in self.channels.values():
            channel.send("ports", count=count)
        found: dict[int, tuple[int, ...]] = {}
        deadline_s = time.monotonic() + PORTS_WITHIN_S
        while len(found) < len(self.channels):
            try:
                node, event = self.inbox.get(timeout=max(0.0, deadline_s - time.monotonic()))
            except queue.Empty:
                raise HostLost("a host does not answer", tip=f"pushtrain show {self._id}") from None
            if event["event"] == "ports":
                found[node] = tuple(event["ports"])
            elif event["event"] == "error" and event.get("attempt") is None:
                self._check(node, event)
            elif event["event"] == "lost" and node in self.channels and not self.channels[node].alive:
                raise HostLost(f"the host process of node {node} died", tip=f"pushtrain resume {self._id}")
        return found

    def drop(self) -> None:
        """End the hosts and what they run, at once."""
        for channel in self.channels.values():
            channel.send("kill")
        self.close()

    def close(self) -> None:
        """Let the hosts end. Safe to repeat."""
        for channel in self.channels.values():
            channel.send("bye")
        for channel in self.channels.values():
            channel.close()
        self.channels, self.inbox = {}, queue.Queue()

    def seal(self, jobs: Mapping[int, Job], *, timeout_s: float, interrupts: Interrupts) -> dict[int, Event]:
        """Have every host seal its outputs: the `sealed` events by node. Blocks.

        Raises the host's error, EngineError for a host that is gone, Cancelled where somebody kills the run.
        """
        self.open()
        for node, channel in self.channels.items():
            channel.send("seal", job=jobs[node].to_json())
        before = interrupts.how  # A kill of the ranks is no kill of this: what they wrote is kept.
        sealed: dict[int, Event] = {}
        deadline_s = time.monotonic() + timeout_s
        while len(sealed) < self._nodes:
            if interrupts.how == "kill" != before:
                raise Cancelled("killed while its outputs were being sealed; what was synced is kept")
            if time.monotonic() > deadline_s:
                raise EngineError(
                    f"outputs were not sealed within {timeout_s:g} s", tip=f"pushtrain resume {self._id}"
                )
            try:
                node, event = self.inbox.get(timeout=POLL_S)
            except queue.Empty:
                continue
            if event["event"] == "sealed":
                sealed[node] = event
            elif node not in sealed:
                self._check(node, event)
        return sealed

    def _check(self, node: int, event: Event) -> None:
        if event["event"] == "error":
            raise getattr(errors, event["class"], EngineError)(event["message"], tip=event["tip"])
        if event["event"] == "lost" and not self.channels[node].alive:
            raise HostLost(f"the host process of node {node} died", tip=f"pushtrain resume {self._id}")
