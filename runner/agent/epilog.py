"""The end of a job on this host, as Slurm tells it -> what the job left is ended before its GPUs are offered again.

What was on its GPUs before it began is somebody else's: it is not ended, and the host is drained for it.
"""

from __future__ import annotations

import calendar
import logging
import os
import sys
import time
from collections.abc import Mapping

from runner.agent import clock, inventory, leftovers, membership, strangers
from runner.agent.leftovers import Left
from runner.errors import EngineError
from runner.slurm.allocated import given

logger = logging.getLogger(__name__)

# Moments of two hosts are compared to so much.
_CLOCKS_S = 5.0


def clean(
    job: str,
    gpus: frozenset[str],
    runs: frozenset[str] = frozenset(),
    *,
    spared: frozenset[str] = frozenset(),
) -> tuple[tuple[Left, ...], tuple[Left, ...]]:
    """End the containers and processes of a job, and what computes on the GPUs (UUIDs) that it had, but `spared` (ids).

    `runs` are those whose marked processes belong to the job, whatever job they name. Returns what there was and what
    is there still; where Docker does not answer its containers are in neither. Blocks for half a minute at most. Safe
    to repeat.
    """
    marked = runs | {left.run for left in _containers() if left.job == job}

    def found() -> tuple[Left, ...]:
        of_job = [left for left in (*_containers(), *leftovers.processes()) if _belongs(left, job, marked)]
        on_gpus, _ = leftovers.unanswered(leftovers.on_gpus)
        others = {each.id for each in of_job} | spared
        strays = [left for left in on_gpus if left.gpu in gpus and left.id not in others]
        return (*of_job, *strays)

    return leftovers.end(found)


def there_before(gpus: frozenset[str], began_s: float | None) -> tuple[Left, ...]:
    """Return what computes on the GPUs (UUIDs) of a job, is of no run or job, and was there when the job began.

    Where it is not known when that was, nothing.
    """
    if began_s is None or not gpus:
        return ()
    found = leftovers.unanswered(leftovers.on_gpus)[0]
    others = [left for left in found if left.gpu in gpus and strangers.is_unnamed(left)]
    return tuple(left for left in others if _earlier(leftovers.began_s(left), began_s))


def _earlier(process_s: float | None, job_s: float) -> bool:
    return process_s is not None and process_s < job_s - _CLOCKS_S


def _began_s(job: str) -> float | None:
    """When a job began, by this host's clock."""
    try:
        said = membership.cluster().run(
            "squeue", "-h", "--all", "-j", job, "-O", "StartTime:64", patience_s=0.0
        )
        # By the head's clock; a process began by this one's.
        return calendar.timegm(time.strptime(said.strip(), "%Y-%m-%dT%H:%M:%S")) + (clock.ahead_s() or 0.0)
    except (EngineError, ValueError) as error:
        logger.info("when job %s began is not known: %s", job, error)
        return None


def _belongs(left: Left, job: str, runs: frozenset[str]) -> bool:
    return left.job == job if left.job else left.kind == "process" and left.run in runs


def _containers() -> tuple[Left, ...]:
    return leftovers.unanswered(leftovers.containers)[0]


def gpus_of(environ: Mapping[str, str], uuids: tuple[str, ...]) -> frozenset[str]:
    """Return which of the host's GPUs (UUIDs in Slurm's order) a job had, by SLURM_JOB_GPUS. Pure."""
    numbers = given(environ)
    return frozenset(uuids[number] for number in numbers if number < len(uuids))


def _runs(job: str) -> frozenset[str]:
    """The job's name, which is its run's id; nothing where another job of this run is in the queue, or none says."""
    try:
        said = membership.cluster().run("squeue", "-h", "--all", "-j", job, "-O", "Name:256", patience_s=0.0)
        names = [line.strip() for line in said.splitlines() if line.strip()]
        if len(set(names)) != 1:
            return frozenset()
        others = membership.cluster().run(
            "squeue", "-h", "--all", "-n", names[0], "-O", "JobID:64", patience_s=0.0
        )
    except EngineError as error:
        logger.info("the name of job %s is not known: %s", job, error)
        return frozenset()
    return frozenset(names) if others.split() == [job] else frozenset()


def main(environ: Mapping[str, str]) -> int:
    """Slurm's Epilog: 1 where something is left on the GPUs that is not of a job, for which Slurm drains this host."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    job = environ.get("SLURM_JOB_ID", "")
    if not job:
        return 0
    gpus = gpus_of(environ, inventory.read_gpus())
    before = there_before(gpus, _began_s(job) if gpus else None)
    ended, still = clean(job, gpus, _runs(job), spared=frozenset(left.id for left in before))
    gone = [left for left in ended if left.id not in {each.id for each in still}]
    leftovers.report(gone, by=f"epilog of job {job}")
    if still or before:
        # Slurm gives no better reason than that its epilog failed.
        strangers.keep_out(environ.get("SLURMD_NODENAME", ""), strangers.Cleared(still=still, foreign=before))
        return 1
    try:
        leftovers.remove_networks(left.run for left in ended if left.kind == "container")
    except EngineError as error:
        logger.info("%s", error)
    return 0


if __name__ == "__main__":
    sys.exit(main(os.environ))
