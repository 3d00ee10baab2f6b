"""`distribution: {type: mpi}` -> one mpirun on node 0, and the ranks that it starts on all nodes.

Made for Open MPI 4: https://www.open-mpi.org/doc/v4.1/man1/mpirun.1.php
"""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING

from runner.launch import ranks, shares
from runner.launch.process import Process

if TYPE_CHECKING:
    from runner.place import Reservation, Slot
    from runner.plan import Plan

# After a failure Open MPI waits so long for ranks to end, whether or not they have, and kills them then. The host ends
# mpirun once all ranks have ended, so the wait costs nothing; it must only be longer than the ranks may save.
_AFTER_GRACE_S = 10
# Beyond it mpirun has nodes start further nodes, which then would need an agent of their own.
_TREE_ABOVE_NODES = 64
# Without the tree mpirun has its daemons leave the agent (`orted --daemonize`), which the agent takes for their end,
# unless they are to stay.
_FLAT = {"plm_rsh_no_tree_spawn": "1", "orte_leave_session_attached": "1"}


def processes(plan: Plan, reservation: Reservation) -> tuple[Process, ...]:
    """A `launched` process for each rank, then the `launcher`.

    mpirun is given nothing of the environment to forward (no `-x`), so no secret is on its command line: the host of
    each node gives its ranks theirs.
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
                **_horovod(plan, reservation, slot),
            },
            kind="launched",
        )
        for rank, local_rank, slot in ranks.places(plan, reservation)
    )
    first = reservation.slots[0]
    launcher = Process(
        rank=ranks.world_size(plan, reservation),
        local_rank=plan.gang.processes_per_node,
        node_rank=first.node_rank,
        argv=_mpirun(plan, reservation),
        env={
            **ranks.told_to_node(plan, reservation, first),
            **shares.shared(first),
            # Ranks run as whom the host process or the container runs as, which is often root and never asked for it.
            "OMPI_ALLOW_RUN_AS_ROOT": "1",
            "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
        },
        kind="launcher",
        task="mpirun",
    )
    return *launched, launcher


def node_names(reservation: Reservation) -> tuple[str, ...]:
    """What mpirun and its agent call the nodes, by node rank.

    An address that is a name (a container's) is taken as it is. Else the first is the host's own name, by which mpirun
    knows that it need not call the agent, and node K is `node-K`: nodes of one machine may have one host name.
    """
    names = zip(reservation.slots, reservation.hostnames, strict=True)
    return tuple(
        slot.address if not _is_ip(slot.address) else (name if number else slot.host)
        for number, (slot, name) in enumerate(names)
    )


def _is_ip(address: str) -> bool:
    try:
        ipaddress.ip_address(address)
    except ValueError:
        return False
    return True


def _mpirun(plan: Plan, reservation: Reservation) -> tuple[str, ...]:
    per_node = plan.gang.processes_per_node
    settings = {
        # The agent, not a batch system that the host may belong to.
        "plm": "rsh",
        "plm_rsh_agent": "pushtrain-agent",
        **(_FLAT if len(reservation.slots) > _TREE_ABOVE_NODES else {}),
        # Hosts with a docker0 all have the same address on it: mpirun hangs without these two.
        "btl_tcp_if_include": reservation.interfaces,
        "oob_tcp_if_include": reservation.interfaces,
        # All of them know each other by these names and their daemons' addresses. To look each name up would be slow
        # where no name server knows it, and take 5 s where one leaves out an answer.
        "if_base_do_not_resolve": "1",
        # A host that is cut off is noticed after 5 + 3 * 2 s, not after the kernel's two hours.
        "oob_tcp_keepalive_time": "5",
        "oob_tcp_keepalive_intvl": "2",
        "oob_tcp_keepalive_probes": "3",
        # Docker's seccomp forbids reading another process's memory, and each attempt is a warning.
        "btl_vader_single_copy_mechanism": "none",
        "odls_base_sigkill_timeout": str(int(plan.limits.grace_s) + _AFTER_GRACE_S),
        # Ranks that wait for a message spin: where others need the CPU, that is ten times slower.
        **({"mpi_yield_when_idle": "1"} if _crowded(plan, reservation) else {}),
    }
    return (
        "mpirun",
        *("--host", ",".join(f"{name}:{per_node}" for name in node_names(reservation))),
        *_mapping(plan, reservation),
        *(word for name, value in settings.items() for word in ("-mca", name, value)),
        "pushtrain-rank",
    )


def _mapping(plan: Plan, reservation: Reservation) -> tuple[str, ...]:
    """Where ranks go: on cores of their own only where all CPUs of the hosts are this run's.

    Open MPI counts cores from the first one up, so two runs on one host would be bound to the same; and by itself it
    binds two ranks to one core each, however many threads they have.
    """
    per_node, cpus = plan.gang.processes_per_node, plan.gang.cpus or 0.0
    own_hosts = all(cpus >= slot.cpus for slot in reservation.slots)
    if _crowded(plan, reservation) or not own_hosts:
        return "--map-by", f"ppr:{per_node}:node", "--bind-to", "none"
    return (
        *("--map-by", f"ppr:{per_node}:node:PE={int(cpus) // per_node}"),
        # CPUs are counted in hardware threads. Where a container may use fewer than its host has, ranks overlap.
        *("--use-hwthread-cpus", "--bind-to", "hwthread:overload-allowed"),
    )


def _crowded(plan: Plan, reservation: Reservation) -> bool:
    """Whether nodes share a host, or ranks a CPU."""
    return any(
        ranks.nodes_on(reservation, slot) > 1 or plan.gang.processes_per_node > _cpus(plan, slot)
        for slot in reservation.slots
    )


def _cpus(plan: Plan, slot: Slot) -> float:
    return min(plan.gang.cpus or slot.cpus, slot.cpus)


def _horovod(plan: Plan, reservation: Reservation, slot: Slot) -> dict[str, str]:
    """Settings of Horovod, which a program without it does not read.

    Its warning that some ranks wait for others comes after a minute, as by its own default, said here for whoever wants
    another under `env`; it ends no run, `timeout.silence` does. The interface is for an operation over Gloo. The
    timeline is written by rank 0, into the working folder's logs.
    """
    timeline = f"{plan.folders.logs.rstrip('/')}/horovod-timeline.json"
    return {
        "HOROVOD_STALL_CHECK_TIME_SECONDS": "60",
        "HOROVOD_GLOO_IFACE": slot.interface or reservation.interface,
        **({"HOROVOD_TIMELINE": timeline} if plan.distribution.timeline else {}),
    }
