"""What the head's clock says -> by how much this host's is ahead of it, and what that does to its runs."""

from __future__ import annotations

from runner.agent import layout, needs
from runner.errors import EngineError

_ASKED_WITHIN_S = 2.0
FAULT = "this clock is more than"
"""Begins what `fault` says."""
# One that is said to be off has to be better than that, or it would be drained and resumed in turns.
_RIGHT_S = needs.CLOCK_S - 1.0


def ahead_s() -> float | None:
    """Return by how much this clock is ahead of the head's, to half a second; None where that is not known.

    Blocks for some seconds where the head is away. On the head itself it is 0.
    """
    try:
        about = layout.about()
    except EngineError:
        return None
    if about.role == "head":
        return 0.0
    return needs.clock_off_s(about.head_address, about.metrics_port, within_s=_ASKED_WITHIN_S)


def fault(ahead_s: float | None, *, was_off: bool) -> str:
    """Say what is wrong, and what to do; empty for a clock that is right, or not known. Pure.

    The same words each time, so that a host is not drained anew for each second.
    """
    if ahead_s is None or abs(ahead_s) <= (_RIGHT_S if was_off else needs.CLOCK_S):
        return ""
    side = "ahead of" if ahead_s > 0 else "behind"
    cure = "here, or on the head: sudo timedatectl set-ntp true, or install chrony"
    return f"{FAULT} {needs.CLOCK_S:g} s {side} the head's, so that Slurm's launches fail; {cure}"
