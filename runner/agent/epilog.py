"""The end of a job on this host, as Slurm tells it -> what the job left is ended before its GPUs are offered again."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Mapping

from runner.agent import inventory, leftovers, membership, strangers
from runner.agent.leftovers import Left
from runner.errors import EngineError
from runner.slurm.allocated import given

logger = logging.getLogger(__name__)


def clean(
    job: str, gpus: frozenset[str], runs: frozenset[str] = frozenset()
) -> tuple[tuple[Left, ...], tuple[Left, ...]]:
    """End the containers and processes of a job, and whatever computes on the GPUs (UUIDs) that it had.

    `runs` are those whose marked processes belong to the job, whatever job they name. Returns what there was and what
    is there still; where Docker does not answer its containers are in neither. Blocks for half a minute at most. Safe
    to repeat.
    """
    marked = runs | {left.run for left in _containers() if left.job == job}

    def found() -> tuple[Left, ...]:
        of_job = [left for left in (*_containers(), *leftovers.processes()) if _belongs(left, job, marked)]
        on_gpus, _ = leftovers.unanswered(leftovers.on_gpus)
        strays = [
            left for left in on_gpus if left.gpu in gpus and left.id not in {each.id for each in of_job}
        ]
        return (*of_job, *strays)

    return leftovers.end(found)


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
    """Slurm's Epilog: 1 where something could not be ended, for which Slurm drains this host."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    job = environ.get("SLURM_JOB_ID", "")
    if not job:
        return 0
    ended, still = clean(job, gpus_of(environ, inventory.read_gpus()), _runs(job))
    gone = [left for left in ended if left.id not in {each.id for each in still}]
    leftovers.report(gone, by=f"epilog of job {job}")
    if still:
        # Slurm gives no better reason than that its epilog failed.
        strangers.keep_out(environ.get("SLURMD_NODENAME", ""), strangers.Cleared(still=still))
        return 1
    try:
        leftovers.remove_networks(left.run for left in ended if left.kind == "container")
    except EngineError as error:
        logger.info("%s", error)
    return 0


if __name__ == "__main__":
    sys.exit(main(os.environ))
