"""This machine as an engine's only host: it plays every node of the gang, and its GPUs are leased per run."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Literal

from runner import gpus, place, plan, removal, runs
from runner.errors import Corrupt, NotFound
from runner.host import channel, leash
from runner.inherit import inherited, inherited_by_isolated
from runner.lock import is_held
from runner.store import open_store

if TYPE_CHECKING:
    import queue
    from collections.abc import Sequence
    from pathlib import Path

    from runner.errors import EngineError
    from runner.host.channel import Channel, Event
    from runner.place import Gang, Reservation
    from runner.runs import Run

LEASE_S = 15.0


class Machine:
    """What the engines `local` and `docker` share."""

    name = "local"
    isolates = False
    allocated = False
    environment: Literal["venv", "image"] = "venv"
    host_imports = ""

    def __init__(self, *, home: Path, store: str) -> None:
        self._home, self._store = home, store
        self._lease: gpus.Lease | None = None

    def check(self, gang: Gang) -> None:
        """Raise NoCapacity when the gang can never fit on this machine."""
        here = (self._host(_gpus_for(gang)),)
        place.place(place.shrunk(gang, here), here, nodes_per_host=None)

    def others(self, gang: Gang) -> tuple[str, ...]:
        """None: it is this machine."""
        del gang
        return ()

    def submit(self, run_id: str) -> None:
        """Start the supervisor in a session of its own, so that it outlives the caller and its terminal."""
        scratch = self._home / "scratch" / run_id
        scratch.mkdir(parents=True, exist_ok=True)
        with (scratch / "supervisor.log").open("ab") as log:
            child = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "runner.supervise",
                    run_id,
                    "--engine",
                    self.name,
                    "--store",
                    self._store,
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # A folder named `runner` where the command was typed is not this package.
                env={
                    **self._environ(run_id),
                    "PUSHTRAIN_HOME": str(self._home),
                    "PYTHONSAFEPATH": "1",
                },
                start_new_session=True,
            )
        # A caller that lives longer than the supervisor, such as one that follows several runs, takes note of its end.
        threading.Thread(target=child.wait, daemon=True).start()

    def _environ(self, run_id: str) -> dict[str, str]:
        """What the supervisor inherits; nothing but the least where its plan cannot be read."""
        try:
            planned = plan.from_json(open_store(self._store).read(runs.key(run_id, "plan.json")))
        except (NotFound, Corrupt):  # The supervisor says so.
            return inherited_by_isolated(os.environ)
        if planned.isolated:
            return inherited_by_isolated(os.environ)
        return inherited(os.environ, secrets=(*planned.secrets, *planned.environment.build_secrets))

    def queued(self, run_id: str) -> str | None:
        """Who holds the GPUs."""
        holders = sorted(set(gpus.holders(self._home / "gpus").values()) - {run_id})
        return f"behind {', '.join(holders)}" if holders else None

    def reserve(self, gang: Gang, *, run_id: str) -> Reservation | None:
        """All the GPUs of the gang at once, or None while other runs hold them. Raises NoCapacity."""
        found = _gpus_for(gang)
        gang = place.shrunk(gang, (self._host(found),))
        place.place(gang, (self._host(found),), nodes_per_host=None)
        wanted = gang.nodes * gang.gpus_per_node
        free = found
        if wanted and self._lease is None:
            folder = self._home / "gpus"
            self._lease = gpus.acquire(folder, found, count=wanted, model=gang.gpu_model, holder=run_id)
            if self._lease is None:
                return None
        if self._lease is not None:
            free = self._lease.gpus
        return place.place(gang, (self._host(free),), nodes_per_host=None)

    def open(self, node_rank: int, inbox: queue.Queue[tuple[int, Event]], *, scratch: Path) -> Channel:
        """A new host process for this node; it holds the leases too, so that they end with the last of the run."""
        return channel.start(
            node_rank,
            inbox,
            scratch=scratch,
            lease_s=float(os.environ.get("PUSHTRAIN_LEASE_S", LEASE_S)),
            lease_fds=self._lease.fds if self._lease is not None else (),
            environ=os.environ,
            imports=self.host_imports,
        )

    def adopt(
        self, node_rank: int, inbox: queue.Queue[tuple[int, Event]], *, scratch: Path
    ) -> Channel | None:
        """A line to the host process that an earlier supervisor left."""
        return channel.adopt(node_rank, inbox, scratch=scratch)

    def sweep(self, run_id: str) -> None:
        """End every process that carries a mark of this run."""
        leash.end_processes(f"{run_id}:", grace_s=0)

    def lives(self, run: Run) -> bool:
        """Whether the run's supervisor lives. One on another machine is taken to."""
        if run.supervisor is not None and run.supervisor.host != socket.gethostname():
            return True
        return is_held(self._home / "scratch" / run.id / "supervisor.lock")

    def me(self) -> runs.Supervisor:
        """This process."""
        return runs.Supervisor(host=socket.gethostname(), pid=os.getpid())

    def displaced(self) -> str:
        """Nobody takes a machine away."""
        return ""

    def housed(self, reservation: Reservation) -> Reservation:
        """All nodes are this machine."""
        return reservation

    def clear(self, run_id: str, *, files: bool) -> None:
        """End what is left, and remove the run's folder."""
        self.sweep(run_id)
        if files:
            removal.remove(self._home / "scratch" / run_id)

    def give_way(self, run_ids: Sequence[str]) -> None:
        """It holds nothing before its turn."""

    def give_up(self, error: EngineError) -> None:
        """There is no other machine."""

    def release(self) -> None:
        """Give the GPUs back."""
        if self._lease is not None:
            self._lease.release()
            self._lease = None

    def _host(self, found: tuple[gpus.Gpu, ...]) -> place.Host:
        return place.Host(
            name=socket.gethostname(),
            address="127.0.0.1",
            cpus=float(os.cpu_count() or 1),
            memory_bytes=os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"),
            gpus=found,
        )


def _gpus_for(gang: Gang) -> tuple[gpus.Gpu, ...]:
    """This machine's GPUs where the gang wants any: asking the driver takes its time."""
    return gpus.discover() if gang.gpus_per_node else ()
