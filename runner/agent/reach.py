"""A host that is not registered -> why, as far as it can be seen from here."""

from __future__ import annotations

import socket
import time
from typing import TYPE_CHECKING

from runner.agent import membership
from runner.errors import EngineError
from runner.slurm.conf import Cluster, Ports

if TYPE_CHECKING:
    from collections.abc import Callable

    from runner.agent.layout import About
    from runner.agent.processes import Logs

    Tell = Callable[[str], None]

_WITHIN_S = 5.0
# A head that is being started answers within seconds.
FIRST_JOIN_WITHIN_S = 20.0
TELL_EVERY_S = 5.0
_LOOK_EVERY_S = 1.0
_DENIED = ("authentication", "credential", "Zero Bytes", "Munge")


def await_head(
    told: Cluster, *, at: str, asked: str, tell: Tell, within_s: float = FIRST_JOIN_WITHIN_S
) -> None:
    """Return when slurmctld can be reached at the address `at`. `asked` is what was typed for it.

    Raises EngineError after `within_s`, with both machines where `at` is not where the token has the head.
    """
    began_s, told_s = time.monotonic(), -TELL_EVERY_S
    port = told.ports.slurmctld
    while (trouble := closed(at, port)) is not None:
        waited_s = time.monotonic() - began_s
        if waited_s >= within_s:
            raise _away(told, at, asked, trouble)
        if time.monotonic() - told_s >= TELL_EVERY_S:
            told_s = time.monotonic()
            tell(f"{asked} does not answer at {at}:{port} ({trouble}); asking on, {within_s:.0f} s in all")
        time.sleep(_LOOK_EVERY_S)


def _away(told: Cluster, at: str, asked: str, trouble: str) -> EngineError:
    port = told.ports.slurmctld
    if at == told.address:
        return EngineError(
            f"the head {told.head} does not answer at {at}:{port}: {trouble}",
            tip=f"on the head: pushtrain agent status; open its TCP port {port} to this host",
        )
    return EngineError(
        f"no head answers at {asked} ({at}:{port}): {trouble}; by the token the head is {told.head} ({told.address})",
        tip=f"pushtrain agent start --join {told.head} --token-file F; or, on {told.head}: pushtrain agent status",
    )


def explain(about: About, logs: Logs) -> EngineError:
    """The likeliest reason, with the end of the log that speaks of it. Takes some seconds."""
    port = Ports().slurmctld
    if (trouble := closed(about.head_address, port)) is not None:
        head = Cluster(name=about.cluster, head=about.head, address=about.head_address)
        return _away(head, about.head_address, about.head, trouble)
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


def closed(address: str, port: int) -> str | None:
    """Why a TCP port cannot be reached; None where it can. Takes some seconds where nothing answers at all."""
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
