"""The engine `slurm`: a fleet of hosts. A run is a Slurm job; its supervisor is the batch script of that job."""

from __future__ import annotations

import contextlib
import logging
import math
import os
import socket
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from runner import entry, place, plan, runs, slurm
from runner.engines import tending
from runner.errors import Displaced, EngineError, NoCapacity, RunNotFound
from runner.host import channel
from runner.inherit import for_hosts
from runner.slurm import allocation, kinds, quota, submission
from runner.slurm.allocation import Fate
from runner.slurm.client import run_folder
from runner.slurm.labels import feature, label
from runner.store import open_store

if TYPE_CHECKING:
    import queue
    from collections.abc import Sequence

    from runner.gpus import Gpu
    from runner.host.channel import Channel, Event
    from runner.place import Gang, Reservation
    from runner.plan import Plan
    from runner.runs import Run
    from runner.slurm import Node
    from runner.slurm.allocation import Allocation, Here
    from runner.store import Store

logger = logging.getLogger(__name__)

# For so long a host goes without a word from its supervisor, and the other way round: longer than a cable is out.
LEASE_S = 20.0
ROLL_TIMES = 3
# A job that lost its hosts so often has another fault.
MOST_RESTARTS = 20


class Cluster:
    """A fleet, as seen from a machine that submits to it and from the supervisors on its hosts."""

    name = "slurm"
    isolates = True
    allocated = True
    environment: Literal["venv", "image"] = "image"

    def __init__(self, *, home: Path, store: str) -> None:
        self._home, self._uri = home, store
        self._slurm = slurm.find()
        self._allocation: Allocation | None = allocation.mine(self._slurm)
        self._hosts: tuple[Here, ...] = ()
        # Who looks at a run is not held up where the head is away: the run goes on without it.
        self._tender = tending.Tender(replace(self._slurm, patience_s=0.0), open_store(store))

    # Whoever asks for a run

    def check(self, gang: Gang) -> None:
        """Raise NoCapacity when the gang would fit on no choice of the fleet's hosts, EngineError as `Slurm.run`."""
        wanted = {feature(*each) for each in gang.labels}
        known = slurm.nodes(self._slurm)
        if known and not any(wanted <= set(node.features) for node in known):
            raise _no_such_labels(gang, known)
        hosts = tuple(
            place.Host(
                name=node.name,
                address=node.address,
                cpus=float(node.cpus),
                memory_bytes=node.memory_bytes,
                gpus=_cards(node.gpus),
            )
            for node in known
            if wanted <= set(node.features)
        )
        place.place(place.shrunk(gang, hosts, nodes_per_host=1), hosts, nodes_per_host=1)
        kinds.chosen(gang, known)

    def others(self, gang: Gang) -> tuple[str, ...]:
        """Those with the gang's labels, whether they are up or not."""
        wanted = {feature(*each) for each in gang.labels}
        return tuple(
            node.name
            for node in slurm.nodes(self._slurm)
            if wanted <= set(node.features) and "FUTURE" not in node.states and not node.is_here()
        )

    def submit(self, run_id: str) -> None:
        """Put the run's job into the queue; a run that has one is left alone."""
        store = open_store(self._uri)
        planned = plan.from_json(store.read(runs.key(run_id, "plan.json")))
        if not slurm.jobs(self._slurm, name=run_id):
            environ = for_hosts(
                os.environ,
                secrets=() if planned.isolated else (*planned.secrets, *planned.environment.build_secrets),
            )
            self._slurm.run(
                "sbatch",
                *submission.options(self._wish(planned, run_id), names=environ),
                "--output=/dev/null",  # What is said before there is a log of its own; see on-host.
                given=submission.script(
                    run_id, store=self._uri, home=os.environ.get("PUSHTRAIN_HOME", ""), folder=run_folder()
                ),
                environ={**os.environ, **environ},
            )
        entry.enter(store, planned, run_id)

    def _wish(self, planned: Plan, run_id: str) -> submission.Wish:
        wanted = kinds.chosen(planned.gang, slurm.nodes(self._slurm))
        tier = f"p{planned.priority // 10 * 10}"
        asked = planned.asked
        return submission.Wish(
            run_id=run_id,
            comment=" ".join(
                filter(
                    None, ("pushtrain", planned.name, asked.repository or "-", asked.by, self._mark(planned))
                )
            ),
            gang=planned.gang,
            gres_type=wanted.gres_type,
            gpu_features=wanted.features,
            features=tuple(feature(*each) for each in planned.gang.labels),
            priority=planned.priority,
            limit_s=limit_s(planned),
            after=self._before(planned, run_id),
            account=quota.admit(
                self._slurm,
                asked.repository,
                gpus=(planned.gang.min_nodes or planned.gang.nodes) * planned.gang.gpus_per_node,
            ),
            partition=tier if tier in self._partitions() else None,
        )

    def _before(self, planned: Plan, run_id: str) -> tuple[str, ...]:
        """The jobs of the runs that a new one waits for: it must not hold hosts while it does."""
        if not planned.group or planned.supersede or _is_known(open_store(self._uri), run_id):
            return ()
        return slurm.marked(self._slurm, self._mark(planned))

    def _mark(self, planned: Plan) -> str:
        """The word by which Slurm knows the group of a run, empty without one."""
        return submission.mark(planned.group, store=open_store(self._uri).uri) if planned.group else ""

    def _partitions(self) -> Sequence[str]:
        return self._slurm.run("sinfo", "--noheader", "--all", "--format=%R").split()

    def queued(self, run_id: str) -> str | None:
        """For what the run waits, and behind whom."""
        return self._tender.waits(run_id)

    def lives(self, run: Run) -> bool:
        """Whether the run has a job that waits or runs. Whoever asks looks after one that waits: tending.py."""
        return self._tender.look(run)

    # The supervisor, inside its job

    def me(self) -> runs.Supervisor:
        """This process, in this start of its job."""
        job = self._allocation.label if self._allocation is not None else ""
        return runs.Supervisor(host=socket.gethostname(), pid=os.getpid(), job=job)

    def displaced(self) -> str:
        """Why Slurm takes the hosts away, to start the job again or for good; empty where it does not."""
        fate = self._allocation.fate() if self._allocation is not None else Fate.RUNS
        if fate is not Fate.PUT_BACK or self._allocation is None:
            return "" if fate is Fate.RUNS else fate.value
        why = "a run of higher priority, a host that left, or a fault"
        with contextlib.suppress(EngineError):  # A head that is away says nothing.
            why = self._allocation.taken_by() or why
        return f"its hosts were taken away: {why}; it goes on in the queue"

    def reserve(self, gang: Gang, *, run_id: str) -> Reservation:
        """The hosts of the job, all of which answered. Raises Displaced where they are given back.

        Raises NoCapacity where Slurm gave another model of GPU than was asked for.
        """
        del run_id
        self._check_models(gang)
        return place.Reservation(
            slots=tuple(
                place.Slot(
                    node_rank=number,
                    host=here.name,
                    address=here.address,
                    gpus=here.gpus,
                    cpus=here.cpus,
                    home=here.home,
                    ip=here.address,
                    interface=here.interface,
                    network=here.network,
                )
                for number, here in enumerate(self._rolled())
            ),
            interface=self._rolled()[0].interface,
        )

    def _check_models(self, gang: Gang) -> None:
        if not gang.gpu_model or not gang.gpus_per_node:
            return
        for here in self._rolled():
            if not kinds.wrong(gang, here.models, ()):
                continue
            node = slurm.node(self._slurm, here.host)
            if given := kinds.wrong(gang, here.models, node.gpus if node is not None else ()):
                raise NoCapacity(
                    f"Slurm gave {given} on {here.host}, and {gang.gpu_model} was asked for",
                    tip="pushtrain runners",
                )

    def _rolled(self) -> tuple[Here, ...]:
        if not self._hosts:
            self._hosts = self._roll()
        return self._hosts

    def _roll(self, *, end: str | None = None, drop: str | None = None) -> tuple[Here, ...]:
        """Ask all hosts; where one does not answer give all of them back, so that Slurm finds others."""
        job = self._own()
        for _ in range(ROLL_TIMES):
            try:
                return job.roll(end=end, drop=drop)
            except EngineError as error:
                logger.warning("%s", error)
                why = error
            time.sleep(1)
        times = tending.in_vain(runs.load(open_store(self._uri), job.name), job.restarts)
        if times >= MOST_RESTARTS:
            raise EngineError(
                f"started {times} times on hosts that do not answer: {why}", tip="pushtrain runners"
            )
        raise Displaced(
            f"{why}; it waits for other hosts", tip="pushtrain queue", remark=self._give_back(why)
        )

    def _give_back(self, why: EngineError) -> str:
        """Have Slurm find other hosts; what is to be said of those that failed, empty for nothing."""
        job, left_out = self._own(), tuple[str, ...]()
        failed = dict(why.hosts) if isinstance(why, allocation.Unanswered) else {}
        # First: whoever gives a job back is ended soon.
        for host in why.stuck if isinstance(why, allocation.Unanswered) else ():
            with contextlib.suppress(EngineError):  # Only an operator may, and root.
                reason = f"Reason=pushtrain: {failed[host]}"
                self._slurm.run("scontrol", "update", f"NodeName={host}", "State=DRAIN", reason)
        with contextlib.suppress(EngineError):  # A head that was killed may have forgotten the job.
            left_out = slurm.put_back(self._slurm, job.job, job.name, failed)
        return "; ".join(f"{host} is left out from then on: {failed[host]}" for host in left_out)

    def _own(self) -> Allocation:
        if self._allocation is None:
            raise EngineError("this is for the supervisor of a run, within its job", tip="pushtrain queue")
        return self._allocation

    def open(self, node_rank: int, inbox: queue.Queue[tuple[int, Event]], *, scratch: Path) -> Channel:
        """A line to a new host process over srun."""
        hosts = self._rolled()
        here = hosts[node_rank % len(hosts)]  # What an elastic gang left on more hosts is sealed by fewer.
        run_id, node = scratch.parts[-2:]
        program = ("-m", "runner.host", f"{run_id}/{node}", str(LEASE_S), "docker", "remote")
        scratch.mkdir(parents=True, exist_ok=True)
        return channel.over(
            node_rank,
            inbox,
            argv=self._own().line(here.host, program),
            log=scratch / "host.log",
            environ=os.environ,
            silence_s=LEASE_S,
            host=here.name,
        )

    def adopt(self, node_rank: int, inbox: queue.Queue[tuple[int, Event]], *, scratch: Path) -> None:
        """Nothing to take over: a host process over srun ends with its supervisor."""

    def housed(self, reservation: Reservation) -> Reservation:
        """With the home of each host."""
        hosts = self._rolled()
        slots = (replace(slot, home=hosts[slot.node_rank % len(hosts)].home) for slot in reservation.slots)
        return replace(reservation, slots=tuple(slots))

    def sweep(self, run_id: str) -> None:
        """End what an earlier supervisor left on the hosts of this job; from elsewhere, the run's job itself."""
        if self._allocation is not None and self._allocation.name == run_id:
            self._roll(end=run_id)
        else:
            self._slurm.run("scancel", f"--name={run_id}", "--full")

    def clear(self, run_id: str, *, files: bool) -> None:
        """As `sweep`. A host that does not answer ends what is left there by itself."""
        if self._allocation is None or self._allocation.name != run_id:
            return
        try:
            self._allocation.roll(end=run_id, drop=run_id if files else None)
        except EngineError as error:
            logger.warning("left behind: %s", error)

    def give_way(self, run_ids: Sequence[str]) -> None:
        """Back into the queue until the jobs of these runs have ended: raises Displaced; with no such job it stays."""
        job = self._own()
        before = [each.id for each in slurm.jobs(self._slurm, name=",".join(run_ids))]
        if not before:
            return
        job.requeue(behind=before)
        raise Displaced(f"waits for its turn, behind {', '.join(run_ids)}", tip="pushtrain queue")

    def give_up(self, error: EngineError) -> None:
        """Have Slurm find other hosts than the one of this process. Raises Displaced."""
        host = os.environ.get("SLURMD_NODENAME") or socket.gethostname()
        why = allocation.Unanswered(str(error), hosts={host: str(error)})
        raise Displaced(
            f"{why}; it waits for other hosts", tip="pushtrain queue", remark=self._give_back(why)
        )

    def release(self) -> None:
        """The hosts are given back when the batch script ends."""


def _is_known(store: Store, run_id: str) -> bool:
    """Whether the run had a job before: others wait behind it by now, and who is first its turn says; turns.py."""
    try:
        runs.load(store, run_id)
    except RunNotFound:
        return False
    return True


def limit_s(planned: Plan) -> float | None:
    """How long all attempts together may train: `timeout.run` is for each, and a job's limit for all. Pure."""
    limits = planned.limits
    if limits.run_s is None:
        return None
    return min(limits.run_s * (1 + planned.retries.max), limits.budget_s or math.inf)


def _no_such_labels(gang: Gang, known: Sequence[Node]) -> NoCapacity:
    named = ", ".join(f"{name}: {value}" for name, value in gang.labels)
    carried = [
        f"{n.name} ({', '.join(map(': '.join, filter(None, map(label, n.features)))) or 'none'})"
        for n in known
    ]
    return NoCapacity(
        f"no host carries all the labels of resources.labels ({named}); there are: {', '.join(carried)}",
        tip="correct resources.labels in train.yml, or: pushtrain runners",
    )


def _cards(gpus: dict[str, int]) -> tuple[Gpu, ...]:
    return tuple(kinds.card(kind) for kind, count in sorted(gpus.items()) for _ in range(count))


def engine(*, home: Path, store: str) -> Cluster:
    """The engine of this module."""
    return Cluster(home=home, store=store)
