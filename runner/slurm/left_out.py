"""Hosts that failed a job -> left out when Slurm starts it again, as long as others will do."""

from __future__ import annotations

import contextlib
import signal
from typing import TYPE_CHECKING

from runner.errors import EngineError
from runner.slurm.hostlist import expand
from runner.slurm.nodes import nodes
from runner.slurm.queue import jobs
from runner.slurm.waiting import alike

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from runner.slurm.client import Slurm
    from runner.slurm.nodes import Node
    from runner.slurm.queue import Job


def put_back(slurm: Slurm, job: str, name: str, failed: Collection[str]) -> tuple[str, ...]:
    """Have Slurm start a job elsewhere, which ends this process; which of the failed hosts are left out: all or none.

    Raises EngineError where the job is not put back.
    """
    spared: tuple[str, ...] = ()
    with contextlib.suppress(EngineError):  # Without that the job waits for any hosts, as others do.
        spared = _sparable(slurm, name, failed)
    with deaf():
        slurm.run("scontrol", "requeue", job)
        if spared:
            slurm.run("scontrol", "update", f"JobId={job}", f"ExcNodeList={','.join(spared)}")
    return tuple(sorted(set(failed) & set(spared)))


def _sparable(slurm: Slurm, name: str, failed: Collection[str]) -> tuple[str, ...]:
    """The hosts that the job can do without, those that failed it before among them; () where too few would be left."""
    job = next(iter(jobs(slurm, name=name)), None)
    if job is None or not failed:
        return ()
    before, known = left_out(slurm, name=name).get(job.id, ()), nodes(slurm)
    # Where not all can be spared, one that failed longer ago may be mended by now.
    choices = ({*failed, *before}, set(failed))
    return next((tuple(sorted(each)) for each in choices if others_do(job, known, without=each)), ())


def left_out(slurm: Slurm, *, name: str | None = None) -> Mapping[str, tuple[str, ...]]:
    """The hosts that jobs are not to be given, by the ids of all jobs or of those of a name. Raises EngineError."""
    chosen = ("--name", name) if name is not None else ()
    # `squeue -O` has no such field.
    text = slurm.run("squeue", "--noheader", "--all", *chosen, "--format=%A %x")
    pairs = (line.partition(" ")[::2] for line in text.splitlines())
    return {job: hosts for job, listed in pairs if (hosts := expand(listed.strip()))}


def take_back(slurm: Slurm, job: Job, hosts: Collection[str], known: Sequence[Node]) -> bool:
    """Give the hosts that are left out back to the job where too few others are left; whether. Raises EngineError."""
    if not hosts or others_do(job, known, without=hosts):
        return False
    slurm.run("scontrol", "update", f"JobId={job.id}", "ExcNodeList=")
    return True


def others_do(job: Job, known: Sequence[Node], *, without: Collection[str]) -> bool:
    """Whether enough hosts that take jobs, free or not, or off, could be the job's but for those. Pure."""
    others = [each for each in known if each.name not in without and each.may_take_jobs]
    return any(len(hosts) >= job.nodes for hosts in alike(job, others))


@contextlib.contextmanager
def deaf() -> Iterator[None]:
    """No SIGTERM for the main thread, which calls this, nor for what it starts meanwhile.

    What Slurm ends the job with must not end the commands by which it is told how to start it again.
    """
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
