"""A run whose ranks have ended -> its files sealed, its metric judged, its model registered."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from runner import collect, jobs, runs
from runner.errors import NotFound, TrainingFailed
from runner.manifest import Manifest
from runner.place import Reservation, Slot
from runner.runs import State

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from runner.gang import Interrupts
    from runner.host.job import Job
    from runner.hosts import Hosts
    from runner.plan import Plan
    from runner.record import Record

SEAL_TIMEOUT_S = 24 * 3600.0


def seal(
    record: Record,
    plan: Plan,
    hosts: Hosts,
    *,
    told: Callable[[Reservation], Mapping[int, Job]],
    interrupts: Interrupts,
) -> Manifest:
    """Seal what the ranks wrote, also when they failed or were stopped. Safe to repeat. Raises as `Hosts.seal`.

    `told` gives what each host was told to do, for a reservation that holds nothing.
    """
    key = runs.key(record.id, "outputs.json")
    if record.state not in (State.COLLECTING, State.PUBLISHING):
        record.unseal()
    try:
        return Manifest.from_json(record.store.read(key))
    except NotFound:
        record.move(State.COLLECTING, reason="")
    known = record.reservation()
    count = len(known.slots) if known is not None else plan.gang.nodes
    hosts.limit(count)
    nodes = range(count)
    here = Reservation(slots=tuple(Slot(node_rank=n, host="", address="127.0.0.1", gpus=()) for n in nodes))
    idle = {n: replace(job, datasets=()) for n, job in told(here).items()}
    sealed = hosts.seal(idle, timeout_s=SEAL_TIMEOUT_S, interrupts=interrupts)
    of_ranks = collect.OfRanks.of(plan)
    manifest = collect.manifest(sealed, of_ranks=of_ranks)
    twice = collect.written_twice(sealed, plan.folders.outputs, of_ranks=of_ranks)
    record.warn((*collect.warnings(sealed, of_ranks=of_ranks), *twice))
    record.store.write(key, manifest.to_json())
    return manifest


def publish(
    record: Record, plan: Plan, manifest: Manifest, *, home: Path, secrets: Mapping[str, str]
) -> None:
    """Judge the metric, register the model, and let the next run with the same inputs find this one.

    Of an isolated run nothing but its own folder is written, and no server that its `env` names is asked for metrics:
    this process reaches places that its containers do not. Raises TrainingFailed where the metric misses its bar.
    """
    record.move(State.PUBLISHING)
    store = record.store
    if not plan.isolated:
        collect.add_remote_metrics(store, record.id, jobs.known_environment(plan, secrets))
    verdict = collect.judge(store, record.id, plan.gate, branches=collect.base_branches(plan.asked.base))
    if verdict is not None:
        record.change(metric=collect.measured(plan.gate, verdict), verdict=verdict.sentence)
        if not verdict.passed:
            raise TrainingFailed(verdict.sentence, code=1, tip=f"pushtrain show {record.id}")
    name = _register(record, plan, manifest, home=home)
    if not plan.isolated:
        store.write(f"results/{plan.hash}", record.id.encode())
    record.move(State.SUCCEEDED, exit_code=0, release=name, reason="", tip="")


def _register(record: Record, plan: Plan, manifest: Manifest, *, home: Path) -> str | None:
    """The name of the model's version, None where the plan promises none."""
    if plan.release is None or plan.isolated:
        return None
    from runner import release

    venv = home / "envs" / plan.environment.key if plan.environment.kind == "venv" else None
    version = release.register(record.store, plan, record.load(), manifest, venv=venv)
    return f"{version.name}@{version.version}"
