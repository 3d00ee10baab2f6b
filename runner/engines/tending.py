"""A run's job in Slurm's queue -> looked after: held ones released, its wishes to end obeyed, its reason told.

A run that waits has no supervisor yet, so whoever looks at it does this: followers, `pushtrain queue`, the agent of
the head. Everything may be repeated, and done by several at once.
"""

from __future__ import annotations

import logging
import time
from itertools import pairwise
from typing import TYPE_CHECKING

from msgspec.structs import replace

from runner import plan, runs, slurm
from runner.engines import synced
from runner.errors import EngineError, NotFound, StoreError, TimedOut
from runner.host.ownership import NOT_THIS_STORE, another_store
from runner.runs import State
from runner.slurm.doubled import Doubled
from runner.slurm.trouble import no_cluster
from runner.slurm.waiting import Moment, held_by_slurm

if TYPE_CHECKING:
    from collections.abc import Mapping

    from runner.runs import Run
    from runner.slurm import Job, Slurm
    from runner.store import Store

logger = logging.getLogger(__name__)

LOOK_EVERY_S = 3.0
SPOKEN_WITHIN_S = 15.0
# So many of those before it are named.
NAMED = 3
# A job that Slurm put back so often before it trained has a fault that does not pass.
MOST_RESTARTS = 20
# So long Slurm knows of a job that has ended, unless a cluster has another MinJobAge.
REMEMBERED_S = 300.0
# Where a run goes on that waited for its turn, held hosts and gave them back: waits.py, `give_way`.
_AGAIN = (State.QUEUED, State.PREPARING)
FORGOTTEN = (
    "Slurm knows nothing of its job: perhaps slurmctld ended before it had written the job down, "
    "or the job is over and this cluster forgets jobs early (MinJobAge)"
)


class Tender:
    """Looks after the jobs of runs. Slurm is asked at most every `LOOK_EVERY_S`."""

    def __init__(self, cluster: Slurm, store: Store) -> None:
        self._slurm, self._store = cluster, store
        self._seen_at_s: dict[str, float] = {}
        self._alive: dict[str, bool] = {}
        self._doubled = Doubled(cluster)
        self._moment: Moment | None = None
        self._moment_at_s = 0.0
        self._left_out: Mapping[str, tuple[str, ...]] | None = None

    def look(self, run: Run) -> bool:
        """Look after the run's job; whether there is one, or a moment ago was."""
        now_s = time.monotonic()
        if now_s >= self._seen_at_s.get(run.id, -LOOK_EVERY_S) + LOOK_EVERY_S:
            try:
                self._alive[run.id] = self._tend(run)
            except EngineError as error:  # A head that boots: runs go on meanwhile.
                # Whoever only reads the store of a fleet is told of no cluster.
                logger.log(logging.DEBUG if no_cluster(error) else logging.WARNING, "%s", error)
                self._alive.setdefault(run.id, True)
            self._seen_at_s[run.id] = time.monotonic()
        return self._alive[run.id]

    def waits(self, run_id: str) -> str | None:
        """For what the run's job waits, None when it does not wait. Raises EngineError."""
        mine = next(
            (job for job in self._now().jobs if job.name == run_id and (job.waits or job.starting)), None
        )
        return self._reason(mine) if mine is not None else None

    def _tend(self, run: Run) -> bool:
        job = self._just_seen(run) or next(iter(slurm.jobs(self._slurm, name=run.id)), None)
        if job is not None and job.starting and not run.state.ended:
            self._tell(run, self._reason(job))
            return True
        if job is None or not job.waits:
            self._doubt_store(run, job)
        if job is None:
            self._tell_end(run)
            return False
        if job.waits and not run.state.ended:
            self._tend_waiting(run, job)
        return True

    def _tell_end(self, run: Run) -> None:
        """Of a run that was under way: why it has no job any more, where that was ended for good."""
        if run.supervisor is None or run.state.ended:
            return
        if why := slurm.ended_by(self._slurm, run.id):
            self._tell(run, f"its job is over: {why}", tip=f"pushtrain resume {run.id}")

    def _doubt_store(self, run: Run, job: Job | None) -> None:
        """A run whose job started and that nobody took: its supervisor sees another store."""
        if run.supervisor is not None or run.state.ended:
            return
        if job is not None and time.time() - (job.starts_at_s or time.time()) < SPOKEN_WITHIN_S:
            return
        ended = slurm.ended_on(self._slurm, run.id) if job is None else None
        if ended is not None and ended[1] == NOT_THIS_STORE:
            self._fail(run, another_store(ended[0], run.id, self._store.uri))
            return
        if job is None and ended is None and time.time() - run.created_at_s < REMEMBERED_S:
            self._tell(run, FORGOTTEN, tip=f"pushtrain resume {run.id}")
            return
        shared = f"all hosts have to reach the store {self._store.uri}"
        reason = f"its job is over, and no supervisor has spoken: {shared}"
        if job is not None:
            # Slurm misses a batch script that a slurmd took with it after some two minutes, and starts it again.
            reason = (
                f"its job runs on {job.hosts}, and no supervisor has spoken yet: {shared}, "
                "and where its slurmd died Slurm starts the job again in two minutes"
            )
        tip = "PUSHTRAIN_STORE=s3://…, or a folder that is mounted on all hosts under that path"
        self._tell(run, reason, tip=tip)

    def _fail(self, run: Run, error: StoreError) -> None:
        code = error.exit_code
        runs.move(
            self._store,
            run.id,
            State.FAILED,
            at_s=time.time(),
            reason=str(error),
            tip=error.tip,
            exit_code=code,
        )

    def _just_seen(self, run: Run) -> Job | None:
        """The run's job if it waited a moment ago: whoever looks after a thousand asks Slurm once, not for each."""
        if self._moment is None or time.monotonic() >= self._moment_at_s + LOOK_EVERY_S:
            return None
        return self._moment.waiting.get(run.id)

    def _now(self) -> Moment:
        """The cluster as of no longer ago than `LOOK_EVERY_S`."""
        if self._moment is None or time.monotonic() >= self._moment_at_s + LOOK_EVERY_S:
            self._moment = Moment(slurm.jobs(self._slurm), slurm.nodes(self._slurm))
            self._moment_at_s = time.monotonic()
            self._left_out = None
            self._doubled.resume(self._moment.nodes)
        return self._moment

    def _tend_waiting(self, run: Run, job: Job) -> None:
        wish = runs.cancel_requested(self._store, run.id)
        if wish is not None:
            why = runs.cancel_reason(self._store, run.id) or "cancelled"
            self._end(run, job, State.CANCELLED, reason=why, code=130)
        elif late := self._late(run, job):
            self._end(run, job, State.FAILED, reason=late, code=TimedOut(late).code)
        elif in_vain(run, job.restarts) > MOST_RESTARTS:
            reason = f"Slurm put its job back {job.restarts} times, at last for: {job.reason}"
            self._end(run, job, State.FAILED, reason=reason, code=EngineError.exit_code)
        elif held_by_slurm(job):
            logger.warning("%s: job %s is held (%s): releasing it", run.id, job.id, job.reason)
            self._slurm.run("scontrol", "release", job.id)
            self._now()
        elif job.reason == "BeginTime" and job.restarts:
            # Slurm lets a job that it put back wait for two minutes; its hosts are free before.
            self._slurm.run("scontrol", "update", f"JobId={job.id}", "StartTime=now")
        elif job.restarts and (back := self._taken_back(job)):
            logger.warning("%s: too few others are left: it may have %s again", run.id, ", ".join(back))
        else:
            self._tell(run, self._reason(job))

    def _taken_back(self, job: Job) -> tuple[str, ...]:
        """The hosts that it had to do without and now may have again."""
        now = self._now()
        if self._left_out is None:
            self._left_out = slurm.left_out(self._slurm)
        hosts = self._left_out.get(job.id, ())
        return hosts if slurm.take_back(self._slurm, job, hosts, now.nodes) else ()

    def _late(self, run: Run, job: Job) -> str:
        if run.attempts:
            return ""  # It has trained: nobody would thank us.
        try:
            limit_s = plan.from_json(self._store.read(runs.key(run.id, "plan.json"))).limits.queue_s
        except NotFound:
            return ""
        if limit_s is None or time.time() - max(job.submitted_at_s, run.created_at_s) <= limit_s:
            return ""
        return f"timeout.queue: it got no hosts within {limit_s:g} s; {self._reason(job)}"

    def _end(self, run: Run, job: Job, state: State, *, reason: str, code: int) -> None:
        """End a run that waits. What earlier attempts left is its outputs, as far as it was synced."""
        self._slurm.run("scancel", "--state=PENDING", job.id)
        if any(not each.waits for each in slurm.jobs(self._slurm, name=run.id)):
            return  # It was given its hosts meanwhile: now its supervisor moves it on, and hears of a wish to end.
        tip = "pushtrain runners" if state is State.FAILED else ""
        sealed = True
        try:
            synced.seal(self._store, run)
        except StoreError as error:  # It ends all the same, and its folders stay.
            logger.warning("%s: what was synced is not sealed: %s", run.id, error)
            sealed = False
        runs.move(self._store, run.id, state, at_s=time.time(), reason=reason, tip=tip, exit_code=code)
        if not sealed:
            return
        try:
            synced.drop(self._store, run)
        except StoreError as error:  # Its outputs are whole: whoever looks at it has nothing to do with that.
            logger.warning("%s: what was synced stays: %s", run.id, error)

    def _tell(self, run: Run, reason: str, *, tip: str = "") -> None:
        """Say it in the run, unless somebody moved it on since it was read: its job may have started meanwhile."""

        def told(now: Run) -> Run:
            stands = (now.state, now.supervisor) == (run.state, run.supervisor) and not now.state.ended
            return replace(now, reason=reason, tip=tip) if stands else now

        if run.reason != reason:
            runs.update(self._store, run.id, told)

    def _reason(self, job: Job) -> str:
        waiting = self._now().explain(job)
        behind = f", behind {', '.join(waiting.behind[:NAMED])}" if waiting.behind else ""
        starts = ""
        if waiting.starts_at_s is not None and waiting.starts_at_s > time.time():
            starts = time.strftime(
                "; Slurm expects it to start at %H:%M UTC", time.gmtime(waiting.starts_at_s)
            )
        return f"{waiting.why}{behind}{starts}"


def in_vain(run: Run, restarts: int) -> int:
    """How often Slurm started a job and took it back before the run trained; not those that gave way by themselves.

    Preempted runs have trained. Pure.
    """
    states = [stage.state for stage in run.stages]
    gave_way = [one is State.WAITING and then in _AGAIN for one, then in pairwise(states)]
    return restarts - run.attempt - sum(gave_way)
