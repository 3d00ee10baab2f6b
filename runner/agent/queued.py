"""`python -m runner.agent.queued`: runs that wait, on the head -> looked after while nobody else looks at them.

A run that waits has no process of its own: somebody has to end it when `timeout.queue` is over, to obey a `cancel`, and
to release what Slurm holds. Followers do; this is for those whom nobody follows.
"""

from __future__ import annotations

import argparse
import logging
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from runner import slurm as slurms
from runner.errors import Corrupt, EngineError, PushtrainError, RunNotFound
from runner.slurm.client import run_folder
from runner.slurm.doubled import Doubled

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from runner.slurm import Slurm
    from runner.store import Store

logger = logging.getLogger(__name__)

EVERY_S = 10.0
_TROUBLE = "queue-trouble"
# So often it is looked for runs that lost their job; Slurm remembers for 300 s how one ended.
REVIVED_EVERY_S = 120.0
# A process of its own, since it reads the store; it ends so that none is left when the agent does.
LASTS_S = 60.0
# So long after its run a job has ended too, unless its supervisor still clears the hosts and the run's mirror.
OUTLIVES_S = 30.0
CLEARS_WITHIN_S = 600.0
GIVEN_UP_AFTER_S = 10 * LASTS_S


def waiting(slurm: Slurm) -> tuple[str, ...]:
    """The runs whose jobs wait, also for hosts that are being started, by their ids. Raises EngineError."""
    found = (job for job in slurms.jobs(slurm) if job.waits or job.starting)
    return tuple(job.name for job in found if job.comment.startswith("pushtrain "))


def watch(slurm: Slurm, *, store: str | None, ended: Callable[[], bool]) -> None:
    """Start that process whenever runs wait, until `ended`; resume what Slurm drained for itself. Blocks."""
    doubled = Doubled(slurm)
    uri = store or str(run_folder() / "home" / "store")
    revive_at_s = time.monotonic() + REVIVED_EVERY_S
    while not ended():
        try:
            # Also where no run waits: the one that was started twice may have gone on elsewhere.
            doubled.resume(slurms.nodes(slurm))
            due = time.monotonic() >= revive_at_s
            if due:
                revive_at_s = time.monotonic() + REVIVED_EVERY_S
            if due or waiting(slurm):
                command = [sys.executable, "-m", "runner.agent.queued", "--store", uri]
                _noted(
                    subprocess.run(
                        command, check=False, timeout=GIVEN_UP_AFTER_S, stderr=subprocess.PIPE, text=True
                    )
                )
        except EngineError as error:
            logger.info("the queue was not looked after: %s", error)
        except subprocess.TimeoutExpired:  # Such as a folder of a file server that is gone.
            logger.warning("the queue was not looked after: the store %s says nothing", uri)
        time.sleep(EVERY_S)


def trouble() -> str:
    """Why the queue was not looked after at the last time; empty where it was."""
    try:
        return (run_folder() / _TROUBLE).read_text()
    except FileNotFoundError:
        return ""


def _noted(done: subprocess.CompletedProcess[str]) -> None:
    sys.stderr.write(done.stderr)
    last = done.stderr.strip().splitlines()[-1:] if done.returncode else []
    if last:
        (run_folder() / _TROUBLE).write_text(last[0])
    else:
        (run_folder() / _TROUBLE).unlink(missing_ok=True)


def tend(uri: str, *, home: Path, lasts_s: float = LASTS_S) -> None:
    """Look after the runs of that store until none waits, or for so long. Raises PushtrainError. Safe to repeat."""
    from runner import engines, runs
    from runner.agent import revival
    from runner.store import open_store

    store, engine = open_store(uri), engines.load("slurm", home=home, store=uri)
    cluster, deadline_s = slurms.find(), time.monotonic() + lasts_s
    for run in revival.lost(store, {job.name for job in slurms.jobs(cluster)}):
        revival.revive(run, store=store, slurm=cluster, submit=engine.submit)
    while found := waiting(cluster):
        for run_id in found:
            try:
                engine.lives(runs.load(store, run_id))
            except RunNotFound:
                logger.debug("%s is of another store", run_id)
            except Corrupt as error:  # The others wait all the same.
                logger.warning("%s", error)
        end_forgotten(cluster, store)
        if time.monotonic() > deadline_s:
            return
        time.sleep(EVERY_S)


def end_forgotten(slurm: Slurm, store: Store) -> tuple[str, ...]:
    """End the jobs of runs that ended a while ago, and return their ids. Raises EngineError, StoreError.

    A slurmctld that was killed knows nothing of its last seconds: it takes jobs that ended then for such as run, and
    keeps their hosts for them until these say next, after minutes, what they run.
    """
    from runner import runs

    ended = []
    for job in slurms.jobs(slurm):
        if job.waits or not runs.is_id(job.name):
            continue
        try:
            run = runs.load(store, job.name)
        except (RunNotFound, Corrupt):
            continue
        ended_for_s = time.time() - run.stages[-1].started_at_s if run.state.ended else 0.0
        if ended_for_s > OUTLIVES_S and (
            ended_for_s > CLEARS_WITHIN_S or not runs.is_being_cleared(store, run.id)
        ):
            logger.warning("%s has ended, its job %s is ended too", run.id, job.id)
            slurm.run("scancel", job.id)
            ended.append(job.id)
    return tuple(ended)


def main(argv: Sequence[str]) -> int:
    """Look after what waits; returns its exit code."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    reader = argparse.ArgumentParser(prog="python -m runner.agent.queued")
    reader.add_argument("--store", required=True)
    asked = reader.parse_args(argv)
    try:
        tend(asked.store, home=run_folder() / "home")
    except PushtrainError as error:
        logger.error("the queue was not looked after: %s", error)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
