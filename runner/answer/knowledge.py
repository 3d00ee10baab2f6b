"""A run's folder -> the facts that a report is made of."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from runner import collect, manifest, pipeline, runs
from runner.errors import NotFound, StoreError
from runner.follow import Tail
from runner.report.facts import Base, RunFacts

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from runner.answer.said import Said
    from runner.manifest import FileEntry
    from runner.metrics import Series
    from runner.plan import Plan
    from runner.report.facts import Place
    from runner.runs import Run
    from runner.store import Store

LOG_LINES = 30


@dataclass(frozen=True, kw_only=True)
class Background:
    """What does not change while a run goes on: its plan, and the run to compare with; and what was read of it."""

    plan: Plan
    base: Base | None
    gpus: collect.GpusSoFar


def background(store: Store, run_id: str) -> Background:
    """Read once for each run."""
    plan = pipeline.plan_of(store, run_id)
    gpus = collect.GpusSoFar(store, run_id)
    return Background(plan=plan, base=_base(store, plan, run_id), gpus=gpus)


def _base(store: Store, plan: Plan, run_id: str) -> Base | None:
    """The same run that the gate compares with."""
    other = collect.base_run(
        store,
        name=plan.name,
        before=run_id,
        metric=plan.gate.primary,
        branches=collect.base_branches(plan.asked.base),
    )
    return Base(run=other, series=collect.series(store, other.id)) if other is not None else None


def facts(
    store: Store,
    run: Run,
    known: Background,
    *,
    said: Said,
    place: Place,
    notes: Sequence[str],
    series: Mapping[str, Series] | None = None,
    earlier: Sequence[Run] = (),
) -> RunFacts:
    """All that is known of a run now; `series` saves reading them again."""
    ended_badly = run.state in (runs.State.FAILED, runs.State.CANCELLED)
    files, sealed = _files(store, run) if run.state.ended else ((), False)
    return RunFacts(
        run=run,
        plan=known.plan,
        series=collect.series(store, run.id) if series is None else series,
        base=known.base,
        files=files,
        sealed=sealed,
        last_lines=last_lines(store, run) if ended_badly else (),
        store=store.uri,
        place=place,
        release_url=said.release_url,
        notes=tuple(notes),
        earlier=tuple(earlier),
        now_s=time.time(),
        folder=str(PurePosixPath(said.train_file).parent),
        train_file=PurePosixPath(said.train_file).name,
        command=said.word,
        gpus=known.gpus.read() if known.plan.gang.gpus_per_node else (),
        check_url=f"{place.url}/runs/{said.check}" if said.check is not None else "",
    )


def last_lines(store: Store, run: Run) -> tuple[str, ...]:
    """The end of what the rank that failed said, or the build of the environment where no rank started."""
    if run.attempts and run.attempts[-1].last_lines:
        rank = run.attempts[-1].failed_rank or 0
        key = runs.log_key(run.id, attempt=run.attempt, rank=rank)
    elif run.attempts:
        key = runs.log_key(run.id, attempt=run.attempt, rank=0)
    else:
        key = runs.build_log_key(run.id)
    return Tail(store, key).read(last=True)[-LOG_LINES:]


def _files(store: Store, run: Run) -> tuple[Sequence[FileEntry], bool]:
    try:
        return manifest.Manifest.from_json(store.read(runs.key(run.id, "outputs.json"))).files, True
    except (NotFound, StoreError):
        return (), False
