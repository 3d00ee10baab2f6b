"""What the head says of its versions -> whether this host has others: in the log, `agent status` and `runners`.

Checked when a host joins, and from then on again and again, since either side may be upgraded. Nothing is ended for it:
runs go on, and people choose the moment.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from runner.agent import inventory, layout
from runner.agent.token import write_secret
from runner.fleet import scrape, versions
from runner.fleet.versions import Versions
from runner.slurm.client import run_folder

if TYPE_CHECKING:
    from runner.agent.layout import About

NOTED = "head-versions"


def own(about: About) -> Versions:
    """Of Pushtrain the version that is installed now, since runs use that; of Slurm what the agent started."""
    return Versions(pushtrain=inventory.own_version(), slurm=about.slurm)


def of_head() -> Versions | None:
    """What the head said last; None where it never did since this machine booted."""
    try:
        return versions.read((run_folder() / NOTED).read_text())
    except FileNotFoundError:
        return None


def look(about: About, *, token: str) -> str:
    """Ask the head, note what it says, and return what `differs` does.

    Blocks for two seconds where the head is away, and goes by what it said last.
    """
    if about.role == "head":
        return ""
    head = versions.read(scrape.version((about.head_address, about.metrics_port), token=token))
    if head is not None and head != of_head():
        write_secret(run_folder() / NOTED, str(head).encode())
    return differs(about)


def differs(about: About, *, where: str = "here") -> str:
    """What differs from what the head said last, and the cure; empty where nothing does, or it said nothing yet."""
    head = of_head() if about.role != "head" else None
    return versions.told(own(about), head, where=where) if head else ""


def answer() -> bytes:
    """What the endpoint of the head says to hosts that ask."""
    return f"{own(layout.about())}\n".encode()
