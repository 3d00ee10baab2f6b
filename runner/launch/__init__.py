"""Plan + Reservation -> the processes of the gang: pure, one function per kind of distribution."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from runner.launch.process import Process

if TYPE_CHECKING:
    from collections.abc import Mapping

    from runner.place import Reservation
    from runner.plan import Plan


# A shell that is asked to stop waits for the command it runs, which was asked as well and may be saving its work.
_PATIENCE = "trap 'exit 143' TERM; "


def patient(argv: tuple[str, ...]) -> tuple[str, ...]:
    """The command such that the rank ends with its training and not before: matters where a shell runs it."""
    return (*argv[:2], _PATIENCE + argv[2]) if argv[:2] == ("/bin/sh", "-c") else argv


Launcher = Callable[["Plan", "Reservation"], tuple[Process, ...]]


def independent(plan: Plan, reservation: Reservation) -> tuple[Process, ...]:
    """`distribution: {type: none}`: the same command on every rank, told apart by PUSHTRAIN_* alone.

    Ranks are numbered node by node, so that rank 0 is the first of node 0.
    """
    per_node = plan.gang.processes_per_node
    world_size = len(reservation.slots) * per_node
    return tuple(
        Process(
            rank=slot.node_rank * per_node + local_rank,
            local_rank=local_rank,
            node_rank=slot.node_rank,
            argv=patient(plan.argv),
            env={
                "PUSHTRAIN_RANK": str(slot.node_rank * per_node + local_rank),
                "PUSHTRAIN_LOCAL_RANK": str(local_rank),
                "PUSHTRAIN_NODE_RANK": str(slot.node_rank),
                "PUSHTRAIN_WORLD_SIZE": str(world_size),
                "PUSHTRAIN_NODES": str(len(reservation.slots)),
                "PUSHTRAIN_NODE_ADDRESSES": ",".join(s.address for s in reservation.slots),
                **_visible_gpus(slot.gpus, local_rank=local_rank, per_node=per_node),
            },
        )
        for slot in reservation.slots
        for local_rank in range(per_node)
    )


def _visible_gpus(gpus: tuple[str, ...], *, local_rank: int, per_node: int) -> dict[str, str]:
    """The node's GPUs, dealt out evenly where there is one for every rank, else shared by all of them."""
    if not gpus:
        return {"CUDA_VISIBLE_DEVICES": ""}
    share = len(gpus) // per_node
    mine = gpus[local_rank * share : (local_rank + 1) * share] if share else gpus
    return {"CUDA_VISIBLE_DEVICES": ",".join(mine)}


LAUNCHERS: Mapping[str, Launcher] = {"none": independent}
