"""JAX_NUM_PROCESSES and JAX_PROCESS_ID -> what `jax.distributed.initialize()` without arguments finds.

JAX knows Open MPI, Slurm and clouds by themselves, and lets others register a class of their own, which it does not
export: https://github.com/jax-ml/jax/blob/main/jax/_src/clusters/cluster.py. Runs within the training, on its Python.
"""

from __future__ import annotations

import os
from importlib import import_module

ADDRESS, COUNT, NUMBER = "JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID"


class Found:
    """The methods that JAX asks; those of older versions are called with fewer arguments."""

    name = "pushtrain"

    @classmethod
    def is_env_present(cls) -> bool:
        """Whether this is a rank of `distribution: jax`."""
        return {ADDRESS, COUNT, NUMBER} <= os.environ.keys()

    @classmethod
    def get_coordinator_address(cls, *_: object, **__: object) -> str:
        """`address:port` of rank 0."""
        return os.environ[ADDRESS]

    @classmethod
    def get_process_count(cls) -> int:
        """How many processes there are on all nodes."""
        return int(os.environ[COUNT])

    @classmethod
    def get_process_id(cls) -> int:
        """The number of this one, from 0."""
        return int(os.environ[NUMBER])

    @classmethod
    def get_local_process_id(cls) -> int | None:
        """None: a number would be taken for the only GPU to use; each rank sees its own share."""
        return None


def register() -> bool:
    """Whether this JAX asks us now, before all others: a run may be within a job of Slurm, which JAX would believe.

    A JAX that keeps its classes elsewhere is left alone: `initialize` with all three arguments works on any. Doing it
    again changes nothing.
    """
    try:
        known = import_module("jax._src.clusters").ClusterEnv
        order = known._cluster_types
    except (ImportError, AttributeError):
        return False
    if not any(getattr(each, "name", "") == Found.name for each in order):
        order.insert(0, type("PushtrainCluster", (Found, known), {}))
        order[:] = dict.fromkeys(order)  # a class of theirs also enters itself, at the end
    return True


register()
