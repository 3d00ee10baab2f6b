"""`pushtrain agent power`: what Slurm calls on the head, and the timer of a machine that was started."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse

    from runner.agent.power import Growth


def resume(asked: argparse.Namespace) -> int:
    """Start the machines of these hosts; which could not be started is told to Slurm."""
    from runner.agent import inherited
    from runner.slurm import hostlist

    inherited.take_over()
    _growth().resume(hostlist.expand(asked.hosts))
    return 0


def suspend(asked: argparse.Namespace) -> int:
    """Stop the machines of these hosts."""
    from runner.agent import inherited
    from runner.slurm import hostlist

    inherited.take_over()
    _growth().suspend(hostlist.expand(asked.hosts))
    return 0


def retry(asked: argparse.Namespace) -> int:
    """Let hosts be started again that were given up, or wait for their next try."""
    from runner.slurm import hostlist

    again = _growth().retry(hostlist.expand(asked.hosts or ""))
    print(f"may be started again: {', '.join(again)}" if again else "no start of these failed")
    return 0


def deadman(asked: argparse.Namespace) -> int:
    """Start the process that switches this machine off when it is alone for too long."""
    from runner import quantities
    from runner.agent import deadman as timers
    from runner.errors import UsageError

    try:
        alone_s = quantities.duration(asked.alone)
    except ValueError as error:
        raise UsageError(f"--alone: {error}", tip="--alone 15m") from error
    timers.start(timers.Timer(name=asked.host, alone_s=max(int(alone_s), 1), off=asked.off or timers.OFF))
    return 0


def _growth() -> Growth:
    from runner.agent import layout, power
    from runner.agent.settings import State

    # Slurm throws away what its programs say.
    log = State(folder=Path(layout.about().state)).logs / "power.log"
    handler = logging.FileHandler(log)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    logging.getLogger("runner").addHandler(handler)
    logging.getLogger("runner").setLevel(logging.INFO)
    return power.of_this_head()
