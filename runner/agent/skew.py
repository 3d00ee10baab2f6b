"""What the head says of its versions and settings -> whether this host has others: in log, `agent status`, `runners`.

Checked when a host joins, and from then on again and again, since either side may be upgraded, or the head told another
store. Nothing is ended for it: runs go on, and people choose the moment. What the settings are is the token's alone to
say, since whoever stands between two hosts could name another store: the head says only digests of them.
"""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING

from runner.agent import inventory, layout
from runner.agent.settings import STATE
from runner.agent.token import write_secret
from runner.fleet import scrape, versions
from runner.fleet.versions import Versions
from runner.slurm.client import run_folder

if TYPE_CHECKING:
    from runner.agent.layout import About

NOTED = "head-versions"
NOTED_SETTINGS = "head-settings"
_SETTINGS = re.compile(r"store=[0-9a-f]{16} registry=[0-9a-f]{16}", re.ASCII)


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
    """Ask the head, note what it says, and return what `told` does.

    Blocks for some seconds where the head is away, and goes by what it said last.
    """
    if about.role == "head":
        return ""
    place = (about.head_address, about.metrics_port)
    head = versions.read(scrape.version(place, token=token))
    if head is not None and head != of_head():
        write_secret(run_folder() / NOTED, str(head).encode())
    settings = scrape.settings(place, token=token).strip() if head is not None else ""
    if _SETTINGS.fullmatch(settings) and settings != _settings_of_head():
        write_secret(run_folder() / NOTED_SETTINGS, settings.encode())
    return told(about)


def told(about: About) -> str:
    """All in which this machine is not as the head, with the cures; empty where nothing is known to be."""
    return "; and ".join(filter(None, (differs(about), other_settings(about))))


def settings(about: About) -> str:
    """Digests of what the hosts of a fleet agree on, which nobody can read it from. Pure."""
    return f"store={_digest(about.store)} registry={_digest(about.registry)}"


def _digest(value: str | None) -> str:
    return hashlib.sha256(repr(value).encode()).hexdigest()[:16]


def _settings_of_head() -> str:
    try:
        said = (run_folder() / NOTED_SETTINGS).read_text()
    except FileNotFoundError:
        return ""
    return said if _SETTINGS.fullmatch(said) else ""


def other_settings(about: About) -> str:
    """Which settings the head was told since this host got its token, and the cure; empty where none."""
    head = _settings_of_head() if about.role != "head" else ""
    both = zip(settings(about).split(), head.split(), strict=False)
    names = [ours.partition("=")[0] for ours, theirs in both if ours != theirs]
    if not names:
        return ""
    given = STATE / "token"
    return (
        f"another {' and '.join(names)} than the head: its token is of before the head's last start; here, when "
        f"nothing runs: pushtrain agent stop; scp root@{about.head_address}:{given} {about.state}/token; "
        "pushtrain agent start"
    )


def differs(about: About, *, where: str = "here") -> str:
    """What differs from what the head said last, and the cure; empty where nothing does, or it said nothing yet."""
    head = of_head() if about.role != "head" else None
    return versions.told(own(about), head, where=where) if head else ""


def answer() -> bytes:
    """What the endpoint of the head says to hosts that ask for its versions."""
    return f"{own(layout.about())}\n".encode()


def answer_settings() -> bytes:
    """What it says to those that ask for its settings; apart, since older hosts read its versions."""
    return f"{settings(layout.about())}\n".encode()
