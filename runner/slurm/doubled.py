"""Hosts that Slurm drained since they had a job already that it started on them -> resumed, look after look.

A slurmctld that was killed right after a launch has the job waiting still, and launches it again. The host is well.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from runner.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from runner.slurm.client import Slurm
    from runner.slurm.nodes import Node

logger = logging.getLogger(__name__)

# Slurm's reason; nobody else gives it.
TWICE = "Duplicate jobid"


class Doubled:
    """Resumes such hosts. That it was refused is logged once for each time that a host was drained."""

    def __init__(self, slurm: Slurm) -> None:
        self._slurm = slurm
        self._refused: set[tuple[str, str]] = set()

    def resume(self, known: Sequence[Node]) -> tuple[str, ...]:
        """Resume those among `known`, all hosts of the cluster; which took it. Safe to repeat, and by several at once.

        An operator of the cluster may, such as the head's agent: others are refused.
        """
        drained = [node for node in known if node.reason.startswith(TWICE) and "DRAIN" in node.states]
        self._refused &= {(node.name, node.reason) for node in drained}
        return tuple(node.name for node in drained if self._resume(node))

    def _resume(self, node: Node) -> bool:
        try:
            self._slurm.run("scontrol", "update", f"NodeName={node.name}", "State=RESUME")
        except EngineError as error:
            if (node.name, node.reason) not in self._refused:
                logger.warning(
                    "%s stays drained (%s), since Slurm refused to resume it: %s; pushtrain agent resume %s",
                    node.name, node.reason, error, node.name,
                )  # fmt: skip
            self._refused.add((node.name, node.reason))
            return False
        logger.warning("%s is resumed: %s", node.name, node.reason)
        return True
