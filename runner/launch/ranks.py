"""Plan + Reservation -> the ranks of a gang: which there are, and what each is told whoever starts it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from runner.place import Reservation, Slot
    from runner.plan import Plan

# A shell that is asked to stop waits for the command it runs, which was asked as well and may be saving its work.
_PATIENCE = "trap 'c=$?; exit $((c ? c : 143))' TERM; "


def patient(argv: tuple[str, ...]) -> tuple[str, ...]:
    """The command such that the rank ends with its training and not before: matters where a shell runs it."""
    return (*argv[:2], _PATIENCE + argv[2]) if argv[:2] == ("/bin/sh", "-c") else argv


def places(plan: Plan, reservation: Reservation) -> Iterator[tuple[int, int, Slot]]:
    """Every rank with its local rank and its node's slot, node by node, so that rank 0 is the first of node 0."""
    per_node = plan.gang.processes_per_node
    for slot in reservation.slots:
        for local_rank in range(per_node):
            yield slot.node_rank * per_node + local_rank, local_rank, slot


def world_size(plan: Plan, reservation: Reservation) -> int:
    """How many ranks there are on all nodes, every task of TensorFlow among them."""
    return len(reservation.slots) * plan.gang.processes_per_node


def told_to_node(plan: Plan, reservation: Reservation, slot: Slot) -> dict[str, str]:
    """Variables that are the same for all processes of a node, launchers among them: PUSHTRAIN_* but the ranks.

    PUSHTRAIN_CHIEF is `address:port` on node 0, for whatever the training wants to agree upon: the launchers leave the
    last of the node's ports to it. It is left out where no ports are known.
    """
    first = reservation.slots[0]
    return {
        "PUSHTRAIN_NODE_RANK": str(slot.node_rank),
        "PUSHTRAIN_NODES": str(len(reservation.slots)),
        "PUSHTRAIN_PROCESSES_PER_NODE": str(plan.gang.processes_per_node),
        "PUSHTRAIN_WORLD_SIZE": str(world_size(plan, reservation)),
        "PUSHTRAIN_NODE_ADDRESSES": ",".join(each.address for each in reservation.slots),
        **({"PUSHTRAIN_CHIEF": f"{first.address}:{first.ports[-1]}"} if first.ports else {}),
    }


def told(plan: Plan, reservation: Reservation, *, local_rank: int, slot: Slot) -> dict[str, str]:
    """Variables of a rank: those of its node, and PUSHTRAIN_RANK and PUSHTRAIN_LOCAL_RANK."""
    return {
        "PUSHTRAIN_RANK": str(slot.node_rank * plan.gang.processes_per_node + local_rank),
        "PUSHTRAIN_LOCAL_RANK": str(local_rank),
        **told_to_node(plan, reservation, slot),
    }


def network(plan: Plan, reservation: Reservation, slot: Slot) -> dict[str, str]:
    """By which interface collectives reach the other ranks; nothing for a rank that is alone.

    Left to themselves, Gloo looks up the host's own name, and NCCL takes the first interface that looks good: both end
    at a bridge of Docker or at 127.0.1.1 on many hosts. NCCL takes a bare name for the beginning of one, hence `=`:
    https://docs.nvidia.com/deeplearning/nccl/user-guide/docs/env.html#nccl-socket-ifname
    """
    if world_size(plan, reservation) == 1:
        return {}
    interface = slot.interface or reservation.interface
    return {
        "GLOO_SOCKET_IFNAME": interface,
        "NCCL_SOCKET_IFNAME": f"={interface}",
    }


def nodes_on(reservation: Reservation, slot: Slot) -> int:
    """How many nodes of the gang share the slot's host."""
    return sum(each.host == slot.host for each in reservation.slots)
