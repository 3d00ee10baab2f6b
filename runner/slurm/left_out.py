"""Hosts that failed a job -> left out when Slurm starts it again, as long as others will do."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from runner.slurm.hostlist import expand
from runner.slurm.nodes import nodes
from runner.slurm.queue import jobs
from runner.slurm.waiting import fits

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from runner.slurm.client import Slurm
    from runner.slurm.nodes import Node
    from runner.slurm.queue import Job

_LEFT_OUT = re.compile(r"\bExcNodeList=(\S+)")


def sparable(slurm: Slurm, name: str, hosts: Collection[str]) -> tuple[str, ...]:
    """Which of these hosts the job of that name can do without: all or none. Raises EngineError.

    None where too few others would be left: it would wait for ever.
    """
    found = next(iter(jobs(slurm, name=name)), None)
    does = bool(hosts) and found is not None and others_do(found, nodes(slurm), without=hosts)
    return tuple(sorted(hosts)) if does else ()


def leave_out(slurm: Slurm, job: str, hosts: Collection[str]) -> None:
    """Have Slurm give these hosts no more to a job that it is putting back. Raises EngineError."""
    slurm.run("scontrol", "update", f"JobId={job}", f"ExcNodeList={','.join(sorted(hosts))}")


def take_back(slurm: Slurm, job: Job) -> tuple[str, ...]:
    """Where too few others are left meanwhile, give the job's hosts back to it; returns them. Raises EngineError."""
    said = _LEFT_OUT.search(slurm.run("scontrol", "show", "job", "--oneliner", job.id))
    hosts = tuple(expand(said[1])) if said is not None and said[1] != "(null)" else ()
    if not hosts or others_do(job, nodes(slurm), without=hosts):
        return ()
    slurm.run("scontrol", "update", f"JobId={job.id}", "ExcNodeList=")
    return hosts


def others_do(job: Job, known: Sequence[Node], *, without: Collection[str]) -> bool:
    """Whether enough hosts that take jobs, free or not, or off, could be the job's but for those. Pure."""
    others = [each for each in known if each.name not in without and each.may_take_jobs]
    return sum(fits(job, each) for each in others) >= job.nodes
