"""What the head's clock says -> by how much this host's is ahead of it, and what that does to its runs."""

from __future__ import annotations

import logging
import time

from runner.agent import layout, needs
from runner.errors import EngineError

logger = logging.getLogger(__name__)

_ASKED_WITHIN_S = 2.0
FAULT = "this clock is more than"
"""Begins what `fault` says."""
# One that is said to be off has to be better than that, or it would be drained and resumed in turns.
_RIGHT_S = needs.CLOCK_S - 1.0

# What a machine synchronises its clock with has set it some seconds after the boot, or its boot script went first.
_BOOTS_S = 300.0
_SET_WITHIN_S = 60.0


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


def settled_ahead_s(
    head: str, port: int, *, up_s: float, within_s: float = _SET_WITHIN_S, pause_s: float = 3.0
) -> float | None:
    """Return the same of the head at that address, for a machine that has been up for `up_s`.

    One that has just booted is given `within_s` to have its clock set; the log says so.
    """
    until_s = time.monotonic() + (within_s if up_s < _BOOTS_S else 0.0)
    while (ahead_s := needs.clock_off_s(head, port)) is not None and abs(ahead_s) > needs.CLOCK_S:
        if time.monotonic() > until_s:
            break
        logger.warning("this clock is %+.0f s from the head's; it may be set in a moment", ahead_s)
        time.sleep(pause_s)
    return ahead_s


def up_s() -> float:
    """Return for how long this machine has been up. Linux only."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def fault(ahead_s: float | None, *, was_off: bool) -> str:
    """Say what is wrong, and what to do; empty for a clock that is right, or not known. Pure.

    The same words each time, so that a host is not drained anew for each second.
    """
    if ahead_s is None or abs(ahead_s) <= (_RIGHT_S if was_off else needs.CLOCK_S):
        return ""
    side = "ahead of" if ahead_s > 0 else "behind"
    cure = "here, or on the head: sudo timedatectl set-ntp true, or install chrony"
    return f"{FAULT} {needs.CLOCK_S:g} s {side} the head's, so that Slurm's launches fail; {cure}"
