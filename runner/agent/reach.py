"""A host that is not registered -> why, as far as it can be seen from here."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

from runner.agent import membership
from runner.errors import EngineError
from runner.slurm.conf import Ports

if TYPE_CHECKING:
    from runner.agent.layout import About
    from runner.agent.processes import Logs

_WITHIN_S = 5.0
_DENIED = ("authentication", "credential", "Zero Bytes", "Munge")


def explain(about: About, logs: Logs) -> EngineError:
    """The likeliest reason, with the end of the log that speaks of it. Takes some seconds."""
    port = Ports().slurmctld
    if (trouble := _closed(about.head_address, port)) is not None:
        return EngineError(
            f"the head {about.head} does not answer at {about.head_address}:{port}: {trouble}",
            tip=f"on the head: pushtrain agent status; open its TCP port {port} to this host",
        )
    said = _said()
    log = logs.tail("slurmd.log" if about.works else "munged.log")
    if any(word in said + log for word in _DENIED):
        return EngineError(
            f"the head {about.head} refuses this host's token, or the two clocks differ: {said}\n{log}",
            tip="copy the head's token again (pushtrain agent token, on the head); compare `date` on both",
        )
    return EngineError(
        f"the head {about.head} answers, and has not registered this host: {said}\n{log}",
        tip=f"open TCP port {Ports().slurmd} of this host ({about.address}) to the head; pushtrain agent status",
    )


def is_denied() -> bool:
    """Whether the head answers this host, and does not accept what it shows."""
    return any(word in _said() for word in _DENIED)


def _closed(address: str, port: int) -> str | None:
    try:
        socket.create_connection((address, port), timeout=_WITHIN_S).close()
    except OSError as error:
        return error.strerror or str(error)
    return None


def _said() -> str:
    try:
        membership.cluster().run("scontrol", "show", "config", patience_s=0.0)
    except EngineError as error:
        return str(error)
    return ""
