"""`distribution: {type: none}` -> the same command on every rank, told apart by PUSHTRAIN_* alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from runner.launch import ranks, shares
from runner.launch.process import Process

if TYPE_CHECKING:
    from runner.place import Reservation
    from runner.plan import Plan


def processes(plan: Plan, reservation: Reservation) -> tuple[Process, ...]:
    """A `direct` process for each rank, each with its share of the node's GPUs."""
    per_node = plan.gang.processes_per_node
    return tuple(
        Process(
            rank=rank,
            local_rank=local_rank,
            node_rank=slot.node_rank,
            argv=ranks.patient(plan.argv),
            env={
                **ranks.told(plan, reservation, local_rank=local_rank, slot=slot),
                **shares.dealt(slot, number=local_rank, among=per_node),
            },
        )
        for rank, local_rank, slot in ranks.places(plan, reservation)
    )
