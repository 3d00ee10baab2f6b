"""A host before it offers its GPUs -> what runs on it for no job is ended, or keeps it from being offered."""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass

from runner.agent import inventory, leftovers, membership
from runner.agent.leftovers import Left
from runner.errors import EngineError, PushtrainError
from runner.host.held import held_marks
from runner.slurm import Slurm, allocated
from runner.slurm.client import run_folder

logger = logging.getLogger(__name__)

# While it is there, somebody else's processes keep the host from being offered; `health` looks whether they still do.
WAITS = "strangers-wait"
# CUDA's own server, which shares a GPU between the processes of a job.
_TOOLS = frozenset({"nvidia-cuda-mps", "nvidia-cuda-mps-server"})


@dataclass(frozen=True, kw_only=True)
class Here:
    """The jobs of Slurm on this host: their ids, their names, and Slurm's numbers of the GPUs that they hold."""

    ids: frozenset[str]
    names: frozenset[str]
    gpus: frozenset[int]


@dataclass(frozen=True, kw_only=True)
class Cleared:
    """What was ended, what could not be, and processes of others that were left where they are."""

    ended: tuple[Left, ...] = ()
    still: tuple[Left, ...] = ()
    foreign: tuple[Left, ...] = ()

    @property
    def reason(self) -> str:
        """Why the host cannot be offered; empty where it can."""
        if not self.still and not self.foreign:
            return ""
        return (
            f"pushtrain: not of a job, and on its GPUs: {', '.join(map(str, (*self.foreign, *self.still)))}"
        )


def clear(node: str, *, slurm: Slurm, evict: bool) -> Cleared:
    """End what of Pushtrain runs here for no job, and with `evict` also foreign processes on GPUs of no job.

    Where slurmctld does not answer, what a living host process answers for is left alone (its lease does the rest), and
    foreign processes are not judged. Reports what it ended. Safe to repeat; blocks for a minute at most.
    """
    # Before the jobs: what a job starts meanwhile is not among them.
    ours, on_gpus = _ours(), leftovers.unanswered(leftovers.on_gpus)[0]
    here = jobs_here(slurm, node)
    marks = held_marks()
    strays = {left.id for left in ours if is_stray(left, here, marks)}
    ended, still = leftovers.end(lambda: tuple(left for left in _ours() if left.id in strays))
    uuids = inventory.read_gpus()
    foreign = tuple(left for left in on_gpus if left.id not in strays and is_foreign(left, here, uuids))
    if foreign:
        # What ended before the jobs were asked for may have been of a job that ended with it.
        there = {left.id for left in leftovers.unanswered(leftovers.on_gpus)[0]}
        foreign = tuple(left for left in foreign if left.id in there)
    if evict and foreign:
        unwanted = {left.id for left in foreign}
        gone, foreign = leftovers.end(
            lambda: tuple(left for left in leftovers.unanswered(leftovers.on_gpus)[0] if left.id in unwanted)
        )
        ended += gone
    left_behind = {left.id for left in (*still, *foreign)}
    ended = tuple(left for left in ended if left.id not in left_behind)
    leftovers.report(ended, by="strangers")
    return Cleared(ended=ended, still=still, foreign=foreign)


def is_stray(left: Left, here: Here | None, held: Iterable[str]) -> bool:
    """Return whether something of Pushtrain's runs for nobody; `here` is None where slurmctld does not answer. Pure."""
    if not left.mark:
        return False  # Slurm's own business: it knows the processes of its steps.
    if left.job and here is not None:
        return left.job not in here.ids
    if leftovers.is_held(left, held):
        return False
    return here is None or left.run not in here.names


def is_foreign(left: Left, here: Here | None, uuids: Sequence[str]) -> bool:
    """Return whether a process on a GPU that is offered is neither of a run nor of a job, and no job holds it. Pure."""
    if here is None or left.mark or left.job in here.ids or left.name in _TOOLS:
        return False
    return left.gpu in uuids and uuids.index(left.gpu) not in here.gpus


def may_be_there() -> bool:
    """Return whether a GPU that is offered has a process which does not itself say of which job it is."""
    uuids = inventory.read_gpus()
    found = leftovers.unanswered(leftovers.on_gpus)[0] if uuids else ()
    return any(is_unnamed(left) and left.gpu in uuids for left in found)


def is_unnamed(left: Left) -> bool:
    """Return whether a process carries nothing of a run or a job, and is no tool of CUDA's. Pure."""
    return not (left.mark or left.job or left.name in _TOOLS)


def jobs_here(slurm: Slurm, node: str) -> Here | None:
    """Return the jobs on a host, none for one that Slurm does not know; None where slurmctld does not answer."""
    try:
        said = slurm.run("squeue", "-h", "--all", "-w", node, "-O", "JobID:64,Name:256", patience_s=0.0)
        rows = [(line[:64].strip(), line[64:].strip()) for line in said.splitlines() if line.strip()]
        gpus = [number for job, _ in rows for number in _gpus_of(slurm, job, node)]
    except EngineError as error:
        if "Invalid node name" in str(error):
            return Here(ids=frozenset(), names=frozenset(), gpus=frozenset())
        logger.info("which jobs run here is not known: %s", error)
        return None
    return Here(ids=frozenset(j for j, _ in rows), names=frozenset(n for _, n in rows), gpus=frozenset(gpus))


def _gpus_of(slurm: Slurm, job: str, node: str) -> list[int]:
    said = slurm.run("scontrol", "show", "job", "-d", "--oneliner", job, patience_s=0.0)
    return [number for host, number in allocated.read(said) if host == node]


def keep_out(node: str, cleared: Cleared) -> None:
    """Drain the host where there is a reason, as far as slurmctld knows it; `health` goes on from there."""
    if not cleared.reason:
        return
    flag = run_folder() / WAITS
    if flag.parent.is_dir():
        flag.write_text(cleared.reason)
    try:
        membership.drain(node, reason=cleared.reason)
    except PushtrainError as error:  # slurmctld is away, or the host is about to join.
        logger.info("the host is not drained yet: %s", error)


def _ours() -> tuple[Left, ...]:
    found, why = leftovers.unanswered(leftovers.containers)
    if why:
        logger.warning("containers are not looked at: %s", why)
    return (*found, *leftovers.processes())


def main(argv: Sequence[str]) -> int:
    """`strangers NODE [--evict]`: what was found as JSON; 1 where the host cannot be offered, and is drained."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    reader = argparse.ArgumentParser(prog="python -m runner.agent.strangers")
    reader.add_argument("node")
    reader.add_argument("--evict", action="store_true", help="end foreign processes on GPUs as well")
    asked = reader.parse_args(argv)
    cleared = clear(asked.node, slurm=membership.cluster(), evict=asked.evict)
    keep_out(asked.node, cleared)
    sys.stdout.write(json.dumps(asdict(cleared)) + "\n")
    return 1 if cleared.reason else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
