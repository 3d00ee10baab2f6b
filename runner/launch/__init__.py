"""Plan + Reservation -> the processes of the gang: pure, one function per kind of distribution."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from runner.launch import jax, mpi, single, tensorflow, torch
from runner.launch.process import Process
from runner.launch.ranks import patient

if TYPE_CHECKING:
    from collections.abc import Mapping

    from runner.place import Reservation
    from runner.plan import Plan

__all__ = ["LAUNCHERS", "Launcher", "Process", "launchers", "patient"]

Launcher = Callable[["Plan", "Reservation"], tuple[Process, ...]]

LAUNCHERS: Mapping[str, Launcher] = {
    "none": single.processes,
    "mpi": mpi.processes,
    "tensorflow": tensorflow.processes,
    "torch": torch.processes,
    "jax": jax.processes,
}


def launchers(plan: Plan) -> int:
    """How many launchers the gang has, each with a stream of output of its own."""
    return {"mpi": 1, "torch": plan.gang.nodes}.get(plan.distribution.type, 0)
