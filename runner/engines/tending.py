"""A run's job in Slurm's queue -> looked after: held ones released, its wishes to end obeyed, its reason told.

A run that waits has no supervisor yet, so whoever looks at it does this: followers, `pushtrain queue`, the agent of
the head. Everything may be repeated, and done by several at once.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

from runner import plan, runs, slurm
from runner.errors import EngineError, NotFound, TimedOut
from runner.runs import State
from runner.slurm.waiting import explain

if TYPE_CHECKING:
    from runner.runs import Run
    from runner.slurm import Job, Slurm
    from runner.store import Store

logger = logging.getLogger(__name__)

LOOK_EVERY_S = 3.0
# So many of those before it are named.
NAMED = 3
# A job that Slurm put back so often has a fault that does not pass.
MOST_RESTARTS = 20


class Tender:
    """Looks after the jobs of runs. Slurm is asked at most every `LOOK_EVERY_S`."""

    def __init__(self, cluster: Slurm, store: Store) -> None:
        self._slurm, self._store = cluster, store
        self._seen_at_s: dict[str, float] = {}
        self._alive: dict[str, bool] = {}

    def look(self, run: Run) -> bool:
        """Look after the run's job; whether there is one, or a moment ago was."""
        now_s = time.monotonic()
        if now_s >= self._seen_at_s.get(run.id, -LOOK_EVERY_S) + LOOK_EVERY_S:
            try:
                self._alive[run.id] = self._tend(run)
            except EngineError as error:  # A head that boots: runs go on meanwhile.
                logger.warning("%s", error)
                self._alive.setdefault(run.id, True)
            self._seen_at_s[run.id] = time.monotonic()
        return self._alive[run.id]

    def waits(self, run_id: str) -> str | None:
        """For what the run's job waits, None when it does not wait. Raises EngineError."""
        jobs = slurm.jobs(self._slurm)
        mine = next((job for job in jobs if job.name == run_id and job.waits), None)
        return self._reason(mine) if mine is not None else None

    def _tend(self, run: Run) -> bool:
        mine = slurm.jobs(self._slurm, name=run.id)
        if not mine:
            return False
        job = mine[0]
        if job.waits and not run.state.ended:
            self._tend_waiting(run, job)
        return True

    def _tend_waiting(self, run: Run, job: Job) -> None:
        wish = runs.cancel_requested(self._store, run.id)
        if wish is not None:
            why = runs.cancel_reason(self._store, run.id) or "cancelled"
            self._end(run, job, State.CANCELLED, reason=why, code=130)
        elif late := self._late(run, job):
            self._end(run, job, State.FAILED, reason=late, code=TimedOut(late).code)
        elif job.restarts > MOST_RESTARTS:
            reason = f"Slurm put its job back {job.restarts} times, at last for: {job.reason}"
            self._end(run, job, State.FAILED, reason=reason, code=EngineError.exit_code)
        elif job.held and job.reason not in ("JobHeldUser",):
            logger.warning("%s: job %s is held (%s): releasing it", run.id, job.id, job.reason)
            self._slurm.run("scontrol", "release", job.id)
        elif job.reason == "BeginTime" and job.restarts:
            # Slurm lets a job that it put back wait for two minutes; its hosts are free before.
            self._slurm.run("scontrol", "update", f"JobId={job.id}", "StartTime=now")
        else:
            self._tell(run, self._reason(job))

    def _late(self, run: Run, job: Job) -> str:
        try:
            limit_s = plan.from_json(self._store.read(runs.key(run.id, "plan.json"))).limits.queue_s
        except NotFound:
            return ""
        if limit_s is None or time.time() - max(job.submitted_at_s, run.created_at_s) <= limit_s:
            return ""
        return f"timeout.queue: it got no hosts within {limit_s:g} s; {self._reason(job)}"

    def _end(self, run: Run, job: Job, state: State, *, reason: str, code: int) -> None:
        """End a run that waits. What earlier attempts left stays in the store, as far as it was synced."""
        self._slurm.run("scancel", "--state=PENDING", job.id)
        tip = "pushtrain runners" if state is State.FAILED else ""
        runs.move(self._store, run.id, state, at_s=time.time(), reason=reason, tip=tip, exit_code=code)

    def _tell(self, run: Run, reason: str) -> None:
        if run.reason != reason:
            runs.move(self._store, run.id, run.state, at_s=time.time(), reason=reason)

    def _reason(self, job: Job) -> str:
        waiting = explain(job, slurm.jobs(self._slurm), slurm.nodes(self._slurm))
        behind = f", behind {', '.join(waiting.behind[:NAMED])}" if waiting.behind else ""
        starts = ""
        if waiting.starts_at_s is not None and waiting.starts_at_s > time.time():
            starts = time.strftime(
                "; Slurm expects it to start at %H:%M UTC", time.gmtime(waiting.starts_at_s)
            )
        return f"{waiting.why}{behind}{starts}"
