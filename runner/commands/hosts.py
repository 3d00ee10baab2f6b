"""`pushtrain agent drain | resume [HOST]`, `agent leave HOST`: from any machine of a fleet, for one of its hosts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from runner.errors import EngineError, UsageError

if TYPE_CHECKING:
    import argparse

    from runner.agent.layout import About

_PLAIN = {"drain": "state=drain reason=WHY", "resume": "state=resume"}


def drain(asked: argparse.Namespace) -> int:
    """Let a host take no more runs."""
    from runner.agent import membership

    name = _named(asked, "drain")
    membership.drain(name, reason=asked.reason or "drained by hand")
    jobs = membership.jobs_on(name)
    print(f"{name} takes no more runs" + (f"; still there: {', '.join(jobs)}" if jobs else ""))
    return 0


def resume(asked: argparse.Namespace) -> int:
    """Let a host take runs again."""
    from runner.agent import membership

    name = _named(asked, "resume")
    membership.resume(name)
    print(f"{name} takes runs")
    return 0


def remove(asked: argparse.Namespace, about: About) -> int:
    """Take a host out of the fleet that is gone and cannot leave by itself. Raises as `membership.remove`."""
    from runner.agent import membership

    if asked.now:
        raise UsageError(
            f"--now is for a host that leaves by itself, not for {asked.host} from here",
            tip=f"on {asked.host}: sudo pushtrain agent leave --now; if it is gone: pushtrain agent leave {asked.host}",
        )
    membership.remove(asked.host)
    print(
        f"{asked.host} is no host of the fleet {about.cluster} any more; if its agent is started again, it joins again"
    )
    return 0


def _named(asked: argparse.Namespace, verb: str) -> str:
    """The host that a command is about. Raises EngineError, UsageError where it is of no fleet or runs nothing."""
    from runner.agent import layout

    try:
        about = layout.about()
    except EngineError:
        if _has_plain():
            typed = f"scontrol update nodename={asked.host or 'HOST'} {_PLAIN[verb]}"
            raise UsageError(
                "no agent was started on this machine, and its Slurm cluster is none of the agent's",
                tip=typed,
            ) from None
        raise
    if asked.host is None and not about.works:
        raise UsageError(
            f"this machine ({about.name}) takes no runs, it is {_ROLES[about.role]} of the fleet {about.cluster}",
            tip=f"pushtrain agent {verb} HOST; pushtrain runners names the hosts",
        )
    return asked.host or about.name


_ROLES = {"client": "a client", "head": "the head", "member": "a host"}


def _has_plain() -> bool:
    from runner.fleet import cluster

    try:
        return cluster.find() is not None
    except EngineError:  # There is one, and it is silent.
        return True
