"""Where a run's supervisor lives, which hosts it has, and how to reach them: one contract, back-ends by name."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Literal, Protocol

from runner.errors import PlanError, Refused, UsageError

if TYPE_CHECKING:
    import queue
    from collections.abc import Sequence
    from pathlib import Path

    from runner.errors import EngineError
    from runner.host.channel import Channel, Event
    from runner.place import Gang, Reservation
    from runner.runs import Run, Supervisor

NAMES = ("local", "docker", "slurm")


class Engine(Protocol):
    """An engine. Everything but `check`, `others` and `submit` is called inside the run's supervisor.

    `isolates`: whether what it starts is kept from this machine's files, processes and network, so that the code of a
    fork may be started on it. `allocated`: whether a supervisor starts only once all its hosts are its own; the ranks
    then use the network of their hosts.
    """

    name: str
    isolates: bool
    allocated: bool
    environment: Literal["venv", "image"]

    def check(self, gang: Gang) -> None:
        """Raise NoCapacity when the gang can never fit, EngineError when the engine does not answer."""

    def others(self, gang: Gang) -> tuple[str, ...]:
        """The hosts other than this machine that the gang may be given, now or later. Raises EngineError."""

    def submit(self, run_id: str) -> None:
        """Start the run's supervisor, apart from the caller; returns when it is started."""

    def queued(self, run_id: str) -> str | None:
        """What a waiting run waits for, None when it does not wait."""

    def lives(self, run: Run) -> bool:
        """Whether the run has a supervisor, or will get one by itself. Cheap enough to be asked all the time."""

    def me(self) -> Supervisor:
        """This process, as the supervisor of a run."""

    def displaced(self) -> str:
        """Why the hosts are being taken away from this supervisor, empty where they are not."""

    def reserve(self, gang: Gang, *, run_id: str) -> Reservation | None:
        """All slots of the gang at once, or None when they are not free now. Safe to repeat."""

    def open(self, node_rank: int, inbox: queue.Queue[tuple[int, Event]], *, scratch: Path) -> Channel:
        """A line to a new host process for this node."""

    def adopt(
        self, node_rank: int, inbox: queue.Queue[tuple[int, Event]], *, scratch: Path
    ) -> Channel | None:
        """A line to the host of this node if it still lives."""

    def sweep(self, run_id: str) -> None:
        """End whatever an earlier supervisor of this run left: processes, containers, networks. Safe to repeat."""

    def housed(self, reservation: Reservation) -> Reservation:
        """The reservation with the folder in which each slot's host keeps its things."""

    def clear(self, run_id: str, *, files: bool) -> None:
        """As `sweep`, of a run that is over; with `files` its folders on the hosts go as well. Safe to repeat."""

    def give_way(self, run_ids: Sequence[str]) -> None:
        """Hold no hosts while these runs have to end first: raises Displaced where there are hosts to give back."""

    def give_up(self, error: EngineError) -> None:
        """This host cannot supervise for that reason: raises Displaced where the run may go on on others."""

    def release(self) -> None:
        """Give the slots back. Safe to repeat."""


def check_isolation(engine: Engine) -> None:
    """Raise Refused where a fork's run cannot be kept from this machine."""
    if not engine.isolates:
        raise Refused(
            f"a fork's run needs the engine docker: with {engine.name} its code could read this user's files",
            tip="--engine docker, or push the commit to a branch of this repository",
        )


def check_network(gang: Gang, *, allocated: bool) -> None:
    """Raise PlanError where the nodes of a fork's run would reach each other by the network of their hosts alone.

    `allocated` is the engine's.
    """
    if allocated and gang.nodes > 1:
        raise PlanError(
            "a fork's run of several nodes needs a network of its own, which hosts of a fleet do not have",
            tip="set resources.nodes to 1, or run it on one machine: --engine docker",
        )


def load(name: str, *, home: Path, store: str) -> Engine:
    """The engine of that name. Raises UsageError with the names there are."""
    if name not in NAMES:
        raise UsageError(f"there is no engine {name!r}", tip=f"--engine {' | '.join(NAMES)}")
    engine: Engine = importlib.import_module(f"runner.engines.{name}").engine(home=home, store=store)
    return engine
