"""`distribution: {type: torch}` -> a torchrun on each node, and the ranks that it starts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from runner.launch import ranks, shares
from runner.launch.process import Process

if TYPE_CHECKING:
    from runner.place import Reservation, Slot
    from runner.plan import Plan

# torchrun kills its ranks so long after it asked them to end. The host does that itself, after the grace.
_AFTER_GRACE_S = 10

_RESTARTS_PER_NODE = 3
_LAST_CALL_S = 10


def processes(plan: Plan, reservation: Reservation) -> tuple[Process, ...]:
    """A `launched` process for each rank, then a `launcher` for each node.

    RANK, WORLD_SIZE and the like are torchrun's own. They agree with PUSHTRAIN_*, since torchrun numbers the nodes in
    the order of their addresses as texts, and the addresses of a reservation are in the order of its nodes. In an
    elastic gang that has lost a node only torchrun's hold.
    """
    launched = (
        Process(
            rank=rank,
            local_rank=local_rank,
            node_rank=slot.node_rank,
            argv=ranks.patient(plan.argv),
            env={
                **ranks.told(plan, reservation, local_rank=local_rank, slot=slot),
                **shares.shared(slot),
                **ranks.network(plan, reservation, slot),
                "TORCH_CPP_LOG_LEVEL": "WARNING",  # torch's own default, which the launcher has not
            },
            kind="launched",
            restartable=plan.distribution.elastic,
        )
        for rank, local_rank, slot in ranks.places(plan, reservation)
    )
    return *launched, *(_launcher(plan, reservation, slot) for slot in reservation.slots)


# Left to share the launchers' store, ranks that meet again can read where those before them could be reached, and wait
# for those in vain: https://github.com/pytorch/pytorch/issues/135712 . So rank 0 opens a new one each time.
_A_STORE_EACH_TIME = {"TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}


def _launcher(plan: Plan, reservation: Reservation, slot: Slot) -> Process:
    return Process(
        rank=ranks.world_size(plan, reservation) + slot.node_rank,
        local_rank=plan.gang.processes_per_node,
        node_rank=slot.node_rank,
        argv=_torchrun(plan, reservation, slot),
        env={
            **ranks.told_to_node(plan, reservation, slot),
            **shares.shared(slot),
            "OMP_NUM_THREADS": str(_threads(plan, reservation, slot)),
            # At the end the launcher that holds the rendezvous goes first, which the others would tell with a stack.
            "TORCH_CPP_LOG_LEVEL": "ERROR",
            "TORCH_ELASTIC_SHUTDOWN_TIMEOUT": str(int(plan.limits.grace_s) + _AFTER_GRACE_S),
            **(_A_STORE_EACH_TIME if plan.distribution.elastic else {}),
        },
        kind="launcher",
        task="torchrun",
    )


def _torchrun(plan: Plan, reservation: Reservation, slot: Slot) -> tuple[str, ...]:
    first, most, least = reservation.slots[0], len(reservation.slots), plan.distribution.min_nodes
    elastic = plan.distribution.elastic
    # Each node that is lost breaks the ranks of the others, and again where they meet while it is still dying; a gang
    # that has lost more is below its minimum. Any other failure is for `retry:`.
    restarts = _RESTARTS_PER_NODE * (most - least) if elastic else 0
    # All nodes are told to start at one moment, so after the least have met nobody waits torch's 30 s for the others.
    late = f",last_call_timeout={_LAST_CALL_S}" if elastic else ""
    return (
        "torchrun",
        *("--nnodes", f"{least}:{most}" if elastic else str(most)),
        *("--nproc-per-node", str(plan.gang.processes_per_node)),
        *("--rdzv-backend", "c10d"),
        *("--rdzv-endpoint", f"{first.address}:{first.ports[0]}"),
        # The port is this run's own, so the id need not be.
        *("--rdzv-id", "pushtrain"),
        # Left to guess by looking up names, two nodes of one machine would both take themselves for the host.
        *("--rdzv-conf", f"is_host={int(slot.node_rank == first.node_rank)}{late}"),
        *("--local-addr", slot.address),
        *("--max-restarts", str(restarts)),
        *("--no-python", "pushtrain-rank"),
    )


def _threads(plan: Plan, reservation: Reservation, slot: Slot) -> int:
    """OpenMP threads of each rank, an even share of the CPUs: torchrun would set 1, with a warning."""
    gang = plan.gang
    cpus = gang.cpus or slot.cpus / ranks.nodes_on(reservation, slot)
    return max(1, int(cpus / gang.processes_per_node))
