"""What is known of a fleet -> the rows of `runners`, `queue` and `top`: pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from runner.fleet import cluster, standing
from runner.quantities import format_size
from runner.slurm import labels
from runner.slurm.hostlist import expand
from runner.slurm.submission import unmarked
from runner.slurm.waiting import Moment, in_order, label, wants

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from runner.fleet.cluster import Fleet
    from runner.fleet.scrape import Answer, Card
    from runner.slurm import Job, Node

MOST_BEHIND = 8


@dataclass(frozen=True, kw_only=True)
class Host:
    """A row of `runners`. `gpus` is in words, such as `8 x NVIDIA H100 80GB HBM3 (80 GiB)`; `agent` its version."""

    name: str
    address: str
    gpus: str
    gpus_total: int
    gpus_free: int
    cpus: int
    cpus_free: int
    memory_bytes: int
    labels: tuple[str, ...]
    state: str
    well: bool
    runs: tuple[str, ...]
    agent: str
    slurm: str


@dataclass(frozen=True, kw_only=True)
class Waiter:
    """A row of `queue`. `position` is None of a job that Slurm does not start (`held`); times as in `Job`.
    Of one that is `starting` the hosts are chosen, and are being started or made ready.

    `behind` are the first of `behind_count`: who holds what it needs, then who stands before it. Of a thousand jobs
    each stands behind all before it, which have rows of their own.
    """

    position: int | None
    run: str
    job: str
    name: str
    wants: str
    user: str
    submitted_at_s: float
    why: str
    behind: tuple[str, ...]
    behind_count: int
    starts_at_s: float | None
    held: bool
    restarts: int
    starting: bool = False


@dataclass(frozen=True, kw_only=True)
class Place:
    """A row of `top`: a GPU with who has it, or a host of which no GPU is known, with the reason in `trouble`.

    Of a host that has no GPU, and is well, it says how that is in `state`.
    """

    host: str
    card: Card | None
    runs: tuple[str, ...] = ()
    users: tuple[str, ...] = ()
    trouble: str = ""
    state: str = ""


def hosts(fleet: Fleet) -> tuple[Host, ...]:
    """All hosts by name."""
    return tuple(_host(node, on(fleet.jobs, node.name), fleet.answers.get(node.name)) for node in fleet.nodes)


def on(jobs: Sequence[Job], host: str) -> tuple[Job, ...]:
    """The jobs that run on a host."""
    return tuple(job for job in jobs if not job.waits and host in expand(job.hosts))


def _host(node: Node, jobs: Sequence[Job], answer: Answer | None) -> Host:
    return Host(
        name=node.name,
        address=node.address,
        gpus=_gpus(node, answer),
        gpus_total=node.gpu_count,
        gpus_free=max(0, node.gpu_count - node.gpus_used) if node.takes_jobs else 0,
        cpus=node.cpus,
        cpus_free=max(0, node.cpus - node.cpus_used) if node.takes_jobs else 0,
        memory_bytes=node.memory_bytes,
        labels=tuple(
            labels.named(feature)
            for feature in node.features
            if feature != "pushtrain" and not feature.startswith(labels.GPU)
        ),
        state=standing.state(node, jobs, answer),
        well=standing.is_well(node, answer),
        runs=tuple(dict.fromkeys(label(job) for job in jobs)),
        agent=(answer.version if answer else "") or cluster.version(node),
        slurm=node.version,
    )


def _gpus(node: Node, answer: Answer | None) -> str:
    """By model, as the agent names it; without an agent's answer Slurm's type, as words."""
    cards = standing.cards(node, answer) if answer is not None else ()
    if not cards:
        return (
            ", ".join(f"{count} x {kind.replace('_', ' ') or 'GPU'}" for kind, count in node.gpus.items())
            or "none"
        )
    counted: dict[str, int] = {}
    for card in cards:
        memory = f" ({format_size(card.memory_bytes)})" if card.memory_bytes else ""
        name = f"{card.model or 'lost GPU'}{memory}"
        counted[name] = counted.get(name, 0) + 1
    return ", ".join(f"{count} x {name}" for name, count in counted.items())


def queue(jobs: Sequence[Job], nodes: Sequence[Node]) -> tuple[Waiter, ...]:
    """All that wait: those whose hosts are being started, then the next one; those that are held come last."""
    first = (*(job for job in jobs if job.starting), *in_order(jobs))
    held = [job for job in jobs if job.held]
    numbered = [*((number, job) for number, job in enumerate(first, 1)), *((None, job) for job in held)]
    moment = Moment(jobs, nodes)
    return tuple(_waiter(job, number, moment) for number, job in numbered)


def _waiter(job: Job, position: int | None, moment: Moment) -> Waiter:
    waiting = moment.explain(job)
    why = waiting.why
    is_run = label(job) == job.name
    if job.held and is_run and job.reason not in ("JobHeldUser", "JobHeldAdmin"):
        # Whoever looks after runs does so: the supervisors of others, `logs -f`, the watcher.
        why += f"; it is released by whoever follows it: pushtrain logs -f {job.name}"
    return Waiter(
        position=position,
        run=label(job),
        job=job.id,
        name=unmarked(job.comment).removeprefix("pushtrain ") if is_run else job.name,
        wants=wants(job),
        user=job.user,
        submitted_at_s=job.submitted_at_s,
        why=why,
        behind=waiting.behind[:MOST_BEHIND],
        behind_count=len(waiting.behind),
        starts_at_s=waiting.starts_at_s,
        held=job.held,
        restarts=job.restarts,
        starting=job.starting,
    )


def places(fleet: Fleet) -> tuple[Place, ...]:
    """Every GPU of every host; a host that does not answer, or has no agent, is one row that says so."""
    known = {job.id: job for job in fleet.jobs}
    return tuple(place for node in fleet.nodes for place in _places(node, fleet, known))


def _places(node: Node, fleet: Fleet, known: Mapping[str, Job]) -> list[Place]:
    there = on(fleet.jobs, node.name)
    users = {label(job): job.user for job in there}
    answer = fleet.answers.get(node.name)
    cards = standing.cards(node, answer) if answer is not None and not answer.trouble else ()
    if not cards:
        runs = tuple(dict.fromkeys(label(job) for job in there))
        has_none = not node.gpu_count and standing.is_well(node, answer)
        trouble = "" if has_none else standing.state(node, there, answer)
        return [
            Place(
                host=node.name,
                card=None,
                runs=runs,
                users=_of(users, runs),
                trouble=trouble,
                state=standing.state(node, there, answer) if has_none else "",
            )
        ]
    found = []
    for card in cards:
        job = known.get(fleet.given.get((node.name, card.slot), "")) if card.slot is not None else None
        runs = tuple(dict.fromkeys((*((label(job),) if job else ()), *card.runs)))
        found.append(Place(host=node.name, card=card, runs=runs, users=_of(users, runs), trouble=card.fault))
    return found


def _of(users: Mapping[str, str], runs: Sequence[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(users[run] for run in runs if run in users))
