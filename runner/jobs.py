"""Plan + Reservation + Environment -> what each host is told to do: pure."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runner import placeholders, runs
from runner.errors import PlanError
from runner.host.job import ContainerLimits, Job
from runner.inherit import is_the_jobs
from runner.launch import LAUNCHERS
from runner.place import Reservation

if TYPE_CHECKING:
    from collections.abc import Mapping

    from runner.launch import Process
    from runner.place import Slot
    from runner.plan import Plan

# A node in containers has a network of its own, in which all ports are free.
CONTAINER_PORT = 23_000
LOOPBACK = "127.0.0.1"


def addressed(
    plan: Plan, reservation: Reservation, *, containers: bool, host_network: bool = False
) -> Reservation:
    """The reservation with the addresses by which its nodes reach each other, and in containers with their ports.

    On their `host_network` containers share the ports of their hosts, which have to be asked. Addresses sort as the
    nodes do: torchrun numbers nodes by the order of their addresses. On one machine without containers each node has an
    address of the loopback network.
    """
    several = len(reservation.slots) > 1
    if host_network:
        names = reservation.hostnames
        named = (replace(slot, address=name) for slot, name in zip(reservation.slots, names, strict=True))
        return replace(reservation, slots=tuple(named)) if several else reservation
    if containers:
        ports = tuple(range(CONTAINER_PORT, CONTAINER_PORT + ports_per_node(plan)))
        slots = (replace(slot, ports=ports) for slot in reservation.slots)
        names = reservation.hostnames
        named = (
            replace(slot, address=name) if several else slot for slot, name in zip(slots, names, strict=True)
        )
        return Reservation(slots=tuple(named), interface="eth0" if several else "lo")
    if not several or any(slot.address != LOOPBACK for slot in reservation.slots):
        return reservation
    slots = (replace(slot, address=_loopback(slot.node_rank)) for slot in reservation.slots)
    return Reservation(slots=tuple(slots), interface="lo")


def ports_per_node(plan: Plan) -> int:
    """One for each process, and one more for what they meet at."""
    return plan.gang.processes_per_node + 1


def _loopback(node: int) -> str:
    return f"127.0.{100 + node // 100}.{100 + node % 100}"


def processes(plan: Plan, reservation: Reservation) -> tuple[Process, ...]:
    """Every process of the gang. `reservation` is one that `addressed` returned."""
    return LAUNCHERS[plan.distribution.type](plan, reservation)


def jobs(
    plan: Plan,
    reservation: Reservation,
    *,
    processes: tuple[Process, ...],
    run_id: str,
    attempt: int,
    resume: bool,
    store: str,
    home: Path,
    venv: str | None,
    image: str | None,
    secrets: Mapping[str, str],
    host_network: bool = False,
) -> dict[int, Job]:
    """One job per node. With `host_network` containers are on their hosts' network, else on one of the run's own."""
    names = reservation.hostnames
    networked = image is not None and len(names) > 1 and not host_network
    world_size = len(names) * plan.gang.processes_per_node

    def job(slot: Slot, mine: tuple[Process, ...]) -> Job:
        node = slot.node_rank
        return Job(
            run_id=run_id,
            mark=mark(run_id, node, attempt=attempt),
            attempt=attempt,
            node_rank=node,
            hostnames=names,
            store=store,
            **_places(Path(slot.home or home), run_id, node),
            tree=plan.tree,
            venv=venv,
            image=image,
            network=f"pushtrain-{run_id}" if networked else None,
            limits=_limits(plan),
            gpus=slot.gpus,
            datasets=plan.datasets,
            **_folders(plan),
            resume=resume,
            processes=mine,
            env=environment(plan),
            facts=facts(plan, run_id=run_id, attempt=attempt),
            secrets=secrets,
            log_keys={str(p.rank): runs.log_key(run_id, attempt=attempt, rank=p.rank) for p in mine},
            metrics_key=runs.metrics_key(run_id) if node == 0 else None,
            live_prefix=live_prefix(run_id, node),
            chief_prefix=live_prefix(run_id, 0),
            isolated=plan.isolated,
            world_size=world_size,
            host_network=host_network,
            addresses=tuple(each.ip for each in reservation.slots),
            grace_s=plan.limits.grace_s,
            per_rank=plan.folders.per_rank and world_size > 1,
            divergence=plan.distribution.divergence if world_size > 1 else "ignore",
        )

    return {
        slot.node_rank: job(slot, tuple(p for p in processes if p.node_rank == slot.node_rank))
        for slot in reservation.slots
    }


def _places(home: Path, run_id: str, node: int) -> dict[str, Any]:
    return {"cache": str(home / "cache"), "scratch": str(scratch(home, run_id, node))}


def _folders(plan: Plan) -> dict[str, Any]:
    folders = plan.folders
    return {"outputs": folders.outputs, "logs": folders.logs, "checkpoints": folders.checkpoints}


def _limits(plan: Plan) -> ContainerLimits:
    gang, ranks = plan.gang, plan.gang.processes_per_node
    return ContainerLimits(
        cpus=gang.cpus / ranks if gang.cpus else None,
        memory_bytes=gang.memory_bytes // ranks if gang.memory_bytes else None,
        shm_bytes=plan.shm_bytes,
    )


def mark(run_id: str, node_rank: int, *, attempt: int) -> str:
    """What every process and container of this node carries in this attempt of the run."""
    return f"{run_id}:{node_rank}:{attempt}:"


def scratch(home: Path, run_id: str, node: int) -> Path:
    """The folder of one node of the run on its host."""
    return home / "scratch" / run_id / f"node-{node}"


def live_prefix(run_id: str, node: int) -> str:
    """Where a node's outputs are mirrored while it runs."""
    return runs.key(run_id, f"live/node-{node}/")


def environment(plan: Plan) -> dict[str, tuple[tuple[str, str], ...]]:
    """`env:` of train.yml: each value as pieces, `("text", …)` as it is and `("variable", NAME)` known on the host."""
    return {
        name: _pieces(placeholders.bind(placeholders.parse(text), plan.inputs))
        for name, text in plan.env.items()
    }


def known_environment(plan: Plan, secrets: Mapping[str, str]) -> dict[str, str]:
    """`env:` as the supervisor knows it: with inputs and secrets, empty where only the host knows."""
    return {
        name: "".join(text if kind == "text" else secrets.get(text, "") for kind, text in pieces)
        for name, pieces in environment(plan).items()
    }


def _pieces(parts: tuple[placeholders.Part, ...]) -> tuple[tuple[str, str], ...]:
    return tuple(("text", p) if isinstance(p, str) else ("variable", p.variable) for p in parts)


def facts(plan: Plan, *, run_id: str, attempt: int) -> dict[str, str]:
    """What every rank is told about its run."""
    return {
        "PUSHTRAIN_RUN_ID": run_id,
        "PUSHTRAIN_ATTEMPT": str(attempt),
        "PUSHTRAIN_REF": plan.asked.ref,
        "PUSHTRAIN_BRANCH": plan.asked.branch or "",
        "PUSHTRAIN_COMMIT": plan.asked.commit or "",
    }


def secrets_of(plan: Plan) -> dict[str, str]:
    """What the ranks get, from this process's environment. Raises PlanError that names every missing one."""
    return _from_environment(plan.secrets)


def build_secrets_of(plan: Plan) -> dict[str, str]:
    """What the build of the image gets, from this process's environment. Raises as `secrets_of`."""
    return _from_environment(plan.environment.build_secrets)


def _from_environment(names: tuple[str, ...]) -> dict[str, str]:
    if forbidden := [name for name in names if is_the_jobs(name)]:
        raise PlanError(
            f"secrets: {', '.join(forbidden)} belongs to the workflow's job or to pushtrain, and no training gets it",
            tip="make a token with only the rights that the training needs, as a secret of another name",
        )
    missing = [name for name in names if name not in os.environ]
    if missing:
        raise PlanError(
            f"secrets that are not in the environment: {', '.join(missing)}",
            tip=f"export {missing[0]}=… and run the command again",
        )
    return {name: os.environ[name] for name in names}
