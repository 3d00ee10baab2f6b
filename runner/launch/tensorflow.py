"""`distribution: {type: tensorflow}` -> the tasks of a cluster, each with its TF_CONFIG.

The format is that of https://www.tensorflow.org/guide/distributed_training#setting_up_the_tf_config_environment_variable
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from runner.launch import ranks, shares
from runner.launch.process import Process

if TYPE_CHECKING:
    from runner.place import Reservation, Slot
    from runner.plan import Plan

Cluster = dict[str, list[str]]


def processes(plan: Plan, reservation: Reservation) -> tuple[Process, ...]:
    """A `direct` process for each task, in the order of the plan's tasks, block by block on the nodes.

    Rank 0 is the chief, or worker 0 where there is none. With parameter servers the chief coordinates, and workers and
    servers only serve it: neither they nor an evaluator, which waits for checkpoints, end by themselves. The computing
    tasks of a node share its GPUs evenly.
    """
    cluster = _cluster(plan, reservation)
    return tuple(
        _process(plan, reservation, cluster, rank=rank, slot=slot)
        for rank, _, slot in ranks.places(plan, reservation)
    )


def _process(plan: Plan, reservation: Reservation, cluster: Cluster, *, rank: int, slot: Slot) -> Process:
    per_node, tasks = plan.gang.processes_per_node, plan.distribution.tasks
    kind, _, index = tasks[rank].partition(" ")
    return Process(
        rank=rank,
        local_rank=rank % per_node,
        node_rank=slot.node_rank,
        argv=ranks.patient(plan.argv),
        env={
            **ranks.told(plan, reservation, local_rank=rank % per_node, slot=slot),
            **_gpus(tasks, rank=rank, per_node=per_node, slot=slot),
            **ranks.network(plan, reservation, slot),
            "TF_CONFIG": json.dumps({"cluster": cluster, "task": {"type": kind, "index": int(index)}}),
        },
        daemon=kind in _daemons(tasks),
        task=tasks[rank],
    )


def _cluster(plan: Plan, reservation: Reservation) -> Cluster:
    """Where each task listens. An evaluator is no part of the cluster: nobody connects to it."""
    cluster: Cluster = {}
    for rank, local_rank, slot in ranks.places(plan, reservation):
        kind = plan.distribution.tasks[rank].partition(" ")[0]
        if kind != "evaluator":
            cluster.setdefault(kind, []).append(f"{slot.address}:{slot.ports[local_rank]}")
    return cluster


def _daemons(tasks: tuple[str, ...]) -> frozenset[str]:
    """Kinds of tasks that run until they are ended: those of a parameter server's cluster stay in `server.join()`."""
    return frozenset(("worker", "ps", "evaluator") if "ps 0" in tasks else ("evaluator",))


def _gpus(tasks: tuple[str, ...], *, rank: int, per_node: int, slot: Slot) -> dict[str, str]:
    idle = ("chief", "ps", "evaluator") if "ps 0" in tasks else ("evaluator",)
    first = slot.node_rank * per_node
    computing = [each for each in range(first, first + per_node) if not tasks[each].startswith(idle)]
    if rank not in computing:
        return shares.none()
    return shares.dealt(slot, number=computing.index(rank), among=len(computing))
