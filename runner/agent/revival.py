"""Runs that have not ended and have no job any more -> put back into the queue, where that can be done without anybody.

A batch script may be killed as well as any other process, and it gives up at last where a store stays away.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

from msgspec.structs import replace

from runner import plan, runs
from runner.errors import Corrupt, EngineError, PushtrainError, RunNotFound

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    from runner.runs import Run
    from runner.slurm import Slurm
    from runner.store import Store

logger = logging.getLogger(__name__)

# A run that was made just now may get its job in a moment.
YOUNG_S = 60.0
# Older ones have ended, or somebody left them as they are on purpose.
LOOKED_AT = 500


def lost(store: Store, jobs: Collection[str]) -> Iterator[Run]:
    """The newest runs of a fleet that have not ended and are not among `jobs`. Raises StoreError."""
    for run_id in runs.ids(store)[:LOOKED_AT]:
        if run_id in jobs or time.time() - runs.asked_at_s(run_id) < YOUNG_S:
            continue
        try:
            run = runs.load(store, run_id)
        except (RunNotFound, Corrupt):
            continue
        if run.engine == "slurm" and not run.state.ended:
            yield run


def revive(run: Run, *, store: Store, slurm: Slurm, submit: Callable[[str], None]) -> None:
    """Put the run back into the queue, or say in it what somebody has to do. Safe to repeat."""
    try:
        if not _requeue(run, store, slurm):
            _submit(run, store, submit)
    except PushtrainError as error:
        logger.warning("%s has no job, and gets none: %s", run.id, error)


def _requeue(run: Run, store: Store, slurm: Slurm) -> bool:
    """Slurm remembers a job for some minutes after its end, with its environment and so its secrets."""
    number = run.supervisor.job.partition(".")[0] if run.supervisor is not None else ""
    if not number:
        return False
    try:
        said = slurm.run("scontrol", "show", "job", number, "--oneliner")
        if f" JobName={run.id} " not in said:  # A head that lost its state counts from 1 again.
            return False
        if " JobState=CANCELLED " in said:  # What it wrote is kept all the same, by a job that does no more.
            runs.request_cancel(store, run.id, how="stop", why="its job was cancelled in Slurm")
        slurm.run("scontrol", "requeue", number)
    except EngineError:
        return False
    logger.warning("%s had lost its job: it is in the queue again", run.id)
    return True


def _submit(run: Run, store: Store, submit: Callable[[str], None]) -> None:
    planned = plan.from_json(store.read(runs.key(run.id, "plan.json")))
    if planned.secrets or planned.environment.build_secrets:
        tip = f"where its secrets are in the environment: pushtrain resume {run.id}"
        runs.update(store, run.id, lambda each: replace(each, reason="its job is gone", tip=tip))
        return
    submit(run.id)
    logger.warning("%s had lost its job: it has a new one", run.id)
