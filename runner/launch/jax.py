"""`distribution: {type: jax}` -> ranks that `jax.distributed.initialize()` brings together."""

from __future__ import annotations

from typing import TYPE_CHECKING

from runner.launch import ranks, shares
from runner.launch.process import Process

if TYPE_CHECKING:
    from runner.place import Reservation
    from runner.plan import Plan


def processes(plan: Plan, reservation: Reservation) -> tuple[Process, ...]:
    """A `direct` process for each rank, each with its share of the node's GPUs; rank 0 is JAX's coordinator.

    JAX reads JAX_COORDINATOR_ADDRESS itself. For the number of processes and its own among them it has no variable but
    those of Open MPI and Slurm: JAX_NUM_PROCESSES and JAX_PROCESS_ID are ours, for programs that pass all three to
    `initialize`, and for what runs inside the ranks, by which `initialize()` without arguments finds them.
    """
    first = reservation.slots[0]
    return tuple(
        Process(
            rank=rank,
            local_rank=local_rank,
            node_rank=slot.node_rank,
            argv=ranks.patient(plan.argv),
            env={
                **ranks.told(plan, reservation, local_rank=local_rank, slot=slot),
                **shares.dealt(slot, number=local_rank, among=plan.gang.processes_per_node),
                **ranks.network(plan, reservation, slot),
                "JAX_COORDINATOR_ADDRESS": f"{first.address}:{first.ports[0]}",
                "JAX_NUM_PROCESSES": str(ranks.world_size(plan, reservation)),
                "JAX_PROCESS_ID": str(rank),
            },
        )
        for rank, local_rank, slot in ranks.places(plan, reservation)
    )
