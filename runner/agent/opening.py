"""A slurmctld that has just started -> its partitions opened, as soon as its hosts have told it of their GPUs.

For some seconds after its start it knows hosts from its state alone: jobs that it gives GPUs then fail, and those GPUs
are never free again (seen with 22.05). So its own slurm.conf has the partitions closed, and the agent opens them.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

from runner.errors import EngineError
from runner.slurm import conf
from runner.slurm.nodes import read

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable

    from runner.slurm import Slurm

logger = logging.getLogger(__name__)

# A host that says nothing for so long is down by then, and is given nothing.
WITHIN_S = conf.HOST_SILENT_S + 5.0
_LOOK_EVERY_S = 0.3


def unheard(text: str) -> tuple[str, ...]:
    """The hosts that would be given jobs though they have said nothing since slurmctld began. Pure.

    `text` is what `scontrol show node --all --oneliner` prints.
    """
    silent = "\n".join(line for line in text.split("\n") if "SlurmdStartTime=None" in line)
    return tuple(node.name for node in read(silent) if node.takes_jobs)


def open_partitions(slurm: Slurm, *, within_s: float = WITHIN_S) -> tuple[str, ...]:
    """Wait until every host was heard or is taken for away, and open what is closed; returns what was.

    Raises EngineError where slurmctld does not answer. Safe to repeat.
    """
    deadline_s = time.monotonic() + within_s
    said = slurm.run("sinfo", "--noheader", "--all", "--format=%R %a")
    wanted = {conf.partition(priority) for priority in conf.PRIORITIES}
    closed = tuple(
        name for name, state in map(str.split, said.splitlines()) if name in wanted and state != "up"
    )
    while closed and (silent := unheard(slurm.run("scontrol", "show", "node", "--all", "--oneliner"))):
        if time.monotonic() > deadline_s:
            logger.warning("not heard since slurmctld began: %s", ", ".join(silent))
            break
        time.sleep(_LOOK_EVERY_S)
    for name in closed:
        slurm.run("scontrol", "update", f"PartitionName={name}", "State=UP")
    return closed


def stay(slurm: Slurm, began: threading.Event, *, ended: Callable[[], bool]) -> None:
    """Open the partitions after each start of slurmctld, of which `began` tells, until `ended`. Blocks."""
    while not ended():
        began.wait()
        began.clear()
        try:
            if opened := open_partitions(slurm):
                logger.info("open: %s", ", ".join(opened))
        except EngineError as error:
            logger.warning("the queue is not open yet: %s", error)
            began.set()
            time.sleep(_LOOK_EVERY_S)
