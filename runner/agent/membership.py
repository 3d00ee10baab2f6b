"""A host's name -> what the head thinks of it, and drain, resume and leave."""

from __future__ import annotations

import json
import logging
import time
from typing import TYPE_CHECKING, Literal

from runner import slurm as slurms
from runner.agent import daemons, skew
from runner.errors import EngineError, Refused, UsageError
from runner.slurm import Slurm
from runner.slurm.client import run_folder
from runner.slurm.conf import HOST_SILENT_S

if TYPE_CHECKING:
    from runner.agent.layout import About
    from runner.slurm import Node

logger = logging.getLogger(__name__)

_LOOK_EVERY_S = 0.2
_WAIT_FOR_JOBS_S = 2.0
_MEMORY_GROWS = 1.01
# "later" is to be asked again; by "changed" slurmd has to say anew what this host is.
Cleared = Literal["kept", "changed", "later"]


def cluster() -> Slurm:
    """The fleet of this machine's agent, whatever SLURM_CONF says."""
    return Slurm(conf=run_folder() / "slurm.conf")


def node(slurm: Slurm, name: str, *, patience_s: float = 0.0) -> Node | None:
    """What the head says of a host; None where it knows none of that name. Raises EngineError where it is away."""
    return slurms.node(slurm, name, patience_s=patience_s)


def awaited(about: About, *, within_s: float) -> Node | None:
    """Wait until the head has registered this host; None where it has not in time. Raises EngineError if it refuses."""
    deadline_s = time.monotonic() + within_s
    while True:
        try:
            found = node(cluster(), about.name)
        except EngineError as error:
            logger.info("%s", error)
            found = None
        if found and "INVAL" in found.states | {found.reason[:5]}:
            raise EngineError(
                f"the head does not take this host: {found.reason}", tip="pushtrain agent status"
            )
        if found and not found.states & {"UNKNOWN", "NOT_RESPONDING", "DOWN", "FUTURE"}:
            return found
        if time.monotonic() > deadline_s:
            return None
        time.sleep(_LOOK_EVERY_S)


def clear(about: About) -> Cleared:
    """Let the head forget a host of this name that had other things: before slurmd starts, until it is not `later`.

    Raises Refused where another machine of that name is in the fleet now. Safe to repeat.
    """
    try:
        known = node(cluster(), about.name, patience_s=5.0 if about.role == "head" else 0.0)
        return _clear(about, known) if known is not None else "kept"
    except Refused:
        raise
    except EngineError as error:
        logger.info("the head does not answer yet: %s", error)
        return "later"


def _clear(about: About, known: Node) -> Cleared:
    if "CLOUD" in known.states:
        # The head was told of it before it was there, and waits for it: only where it is was not known.
        cluster().run("scontrol", "update", f"nodename={about.name}", f"nodeaddr={about.address}")
        if "POWERING_UP" in known.states:
            (run_folder() / daemons.AWAITED).touch()
            return "changed"
        return "kept"
    if known.address != about.address and known.takes_jobs:
        raise Refused(
            f"there is a host {about.name} in the fleet already, at {known.address}",
            tip="give this one another name: pushtrain agent start … --name NAME; where that was this machine's own "
            f"address: again after {HOST_SILENT_S:g} s",
        )
    # One that it refused for what it knew of it before is shown with what the host has now.
    refused = known.states & {"INVAL", "INVALID_REG"}
    if _told(known) == _wanted(about) and _has_memory(about, known) and not refused:
        return "kept"
    if _delete(about.name):
        return "changed"
    # What it knew stands while a job holds it; at another address nobody reaches this host.
    return "kept" if known.address == about.address else "later"


def _has_memory(about: About, known: Node) -> bool:
    """Slurm takes a host with less than it knew for broken. A kernel's few MiB more are no reason to forget a drain."""
    wanted_bytes = int(_said(about)["RealMemory"]) * 2**20
    return known.memory_bytes <= wanted_bytes <= known.memory_bytes * _MEMORY_GROWS


def _told(known: Node) -> tuple[str, ...]:
    gres = ",".join(f"gpu:{kind}:{count}" for kind, count in sorted(known.gpus.items()))
    return (str(known.cpus), gres, ",".join(known.features), known.address)


def _said(about: About) -> dict[str, str]:
    return dict(word.partition("=")[::2] for word in about.host_conf.split())


def _wanted(about: About) -> tuple[str, ...]:
    said = _said(about)
    gres = ",".join(sorted(filter(None, said.get("Gres", "").split(","))))
    return (said["CPUs"], gres, said["Feature"], said["NodeAddr"])


def _delete(name: str) -> bool:
    try:
        cluster().run("scontrol", "delete", f"nodename={name}", patience_s=0.0)
    except EngineError as error:
        logger.warning("the head keeps what it knew of %s: %s", name, error)
        return False
    return True


def comment(about: About) -> str:
    """What a host says of itself at the head, for `pushtrain runners`."""
    said: dict[str, object] = {"pushtrain": skew.own(about).pushtrain, "metrics": about.metrics_port}
    if skew.differs(about):
        said["head"] = str(skew.of_head())
    if skew.other_settings(about):
        said["settings"] = False
    return json.dumps(said, separators=(",", ":"))


def tell(about: About, found: Node) -> None:
    """Say it, unless it is known. Raises EngineError."""
    if found.comment != comment(about):
        cluster().run(
            "scontrol", "update", f"nodename={about.name}", f"comment={comment(about)}", patience_s=0.0
        )


def drain(name: str, *, reason: str) -> None:
    """Give it no more jobs; those it has go on. Raises as `resume` does. Safe to repeat."""
    _known(name)
    cluster().run("scontrol", "update", f"nodename={name}", "state=drain", f"reason={reason}")


def resume(name: str) -> None:
    """Give it jobs again. Raises EngineError, UsageError where it does not know it. Safe to repeat."""
    if _known(name).states & {"DRAIN", "DOWN", "FAIL"}:
        cluster().run("scontrol", "update", f"nodename={name}", "state=resume")


def _known(name: str) -> Node:
    found = node(cluster(), name, patience_s=10.0)
    if found is None:
        raise UsageError(f"there is no host {name} in the fleet", tip="pushtrain runners")
    return found


def remove(name: str) -> None:
    """Take a host out that is gone. Raises EngineError, UsageError where it answers, has runs, or comes and goes."""
    found = _known(name)
    if "CLOUD" in found.states:
        raise UsageError(
            f"{name} is a host that comes and goes: it is taken out of elastic.yml",
            tip="on the head: pushtrain agent stop; pushtrain agent start --head --elastic FILE",
        )
    if "NOT_RESPONDING" not in found.states:
        raise UsageError(
            f"{name} answers, so it leaves by itself",
            tip=f"on {name}: sudo pushtrain agent leave; if it went off just now: again after {HOST_SILENT_S:g} s",
        )
    if jobs := jobs_on(name):
        raise UsageError(
            f"{name} does not answer, and has {', '.join(jobs)} still",
            tip=f"again after {HOST_SILENT_S:g} s, when they wait for other hosts; or: pushtrain cancel RUN",
        )
    delete(name)


def jobs_on(name: str) -> tuple[str, ...]:
    """Names of the jobs that run there. Raises EngineError."""
    said = cluster().run("squeue", "--noheader", "--all", f"--nodelist={name}", "-O", "Name:256")
    return tuple(line.strip() for line in said.splitlines() if line.strip())


def wait_for_jobs(name: str) -> None:
    """Return when no job runs there. Raises EngineError."""
    while jobs_on(name):
        time.sleep(_WAIT_FOR_JOBS_S)


def send_away(name: str) -> None:
    """Put the jobs of a host back into the queue, and return when none runs there. Raises EngineError."""
    said = cluster().run("squeue", "--noheader", "--all", f"--nodelist={name}", "-O", "JobID:256")
    for job in said.split():
        cluster().run("scontrol", "requeue", job)
    wait_for_jobs(name)


def delete(name: str, *, within_s: float = 30.0) -> None:
    """Take a host out that runs nothing; asks again while a job ends. Raises EngineError. Safe to repeat."""
    deadline_s = time.monotonic() + within_s
    while node(cluster(), name, patience_s=10.0) is not None:
        try:
            cluster().run("scontrol", "delete", f"nodename={name}")
        except EngineError:
            if time.monotonic() > deadline_s:
                raise
            time.sleep(1.0)
