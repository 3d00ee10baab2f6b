"""A Python that starts within a rank -> the same one, watched; then the sitecustomize that it would have had.

The host puts this folder first on PYTHONPATH, so `site` imports this file in every Python of the rank's process tree,
but not where Python runs with -E, -I or -S. It works on any Python from 3.8 on, imports nothing that is not loaded
already or of this folder, and is silent where something fails: what watches over a training must never break it.
"""

from __future__ import annotations

import os
import sys
from _frozen_importlib import module_from_spec
from _frozen_importlib_external import PathFinder

_HERE = os.path.dirname(os.path.abspath(__file__))


def _watch() -> None:
    """Watch files and weights, if this is a rank of a gang that has a folder for what is seen."""
    gang, rank = os.environ.get("PUSHTRAIN_GANG"), os.environ.get("PUSHTRAIN_RANK")
    if not gang or not rank:
        return
    _watch_for(os.path.join(gang, "ranks", rank))


def _watch_for(folder: str) -> None:
    import pushtrain_imports as imports

    if os.path.exists(os.path.join(_HERE, "pushtrain_jax.py")):
        imports.when("jax._src.clusters", lambda _: __import__("pushtrain_jax"))
    if os.environ.get("PUSHTRAIN_WORLD_SIZE", "1") == "1" or not os.path.isdir(folder):
        return
    import pushtrain_ends
    import pushtrain_writes

    pushtrain_ends.watch()
    pushtrain_writes.watch(os.path.join(folder, "written"))
    if os.environ.get("PUSHTRAIN_DIVERGENCE", "ignore") != "ignore":
        _watch_weights(os.path.join(folder, "weights"))


def _watch_weights(path: str) -> None:
    import pushtrain_imports as imports

    def tensorflow(module: object) -> None:
        import pushtrain_tensorflow

        pushtrain_tensorflow.watch(module, path)

    def torch(module: object) -> None:
        import pushtrain_torch

        pushtrain_torch.watch(module, path)

    imports.when("tensorflow.python.eager.polymorphic_function.polymorphic_function", tensorflow)
    imports.when("tensorflow.python.eager.backprop", tensorflow)
    imports.when("torch.optim.optimizer", torch)
    imports.when("torch.distributed.fsdp.fully_sharded_data_parallel", torch)
    imports.when("deepspeed.runtime.engine", torch)


def _load_next() -> None:
    """Load the sitecustomize that Python would have found without this folder, in place of this module."""
    path = [entry for entry in sys.path if os.path.abspath(entry) != _HERE]
    spec = PathFinder.find_spec("sitecustomize", path)
    if spec is None or spec.loader is None:
        return
    module = module_from_spec(spec)
    sys.modules["sitecustomize"] = module
    spec.loader.exec_module(module)


try:
    _watch()
except Exception:
    pass
_load_next()  # Outside the guard: its errors are reported by `site`, as ever.
