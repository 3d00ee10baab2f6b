"""PyTorch, when it is imported -> sketches of what its optimizers train, after 1, 2, 4, 8, ... steps and at the end.

Seen: every step of a `torch.optim.Optimizer`, by the hook that PyTorch has for all of them (2.1 and later). Not seen:
updates without an optimizer, steps that are compiled or captured in a CUDA graph, optimizers made before the first
`torch.compile` (which removes hooks from their steps). Not compared, since their ranks differ on purpose: FSDP,
ZeRO, DeepSpeed, DTensor, tensor and pipeline parallel training.
"""

from __future__ import annotations

import sys
import weakref

import pushtrain_weights as weights

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_sharded = False


def watch(module: Any, path: str) -> None:
    """Hook into `module`: torch's optimizers, or a library that shards models as soon as it wraps one."""
    if module.__name__ == "torch.optim.optimizer":
        _watch_steps(module, path)
        return
    for name in ("FullyShardedDataParallel", "DeepSpeedEngine"):
        if hasattr(module, name):
            _note_use(getattr(module, name))


def _note_use(kind: Any) -> None:
    make = kind.__init__

    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:  # noqa: N807 (it stands in for a method of that name)
        global _sharded
        _sharded = True
        make(self, *args, **kwargs)

    __init__.__wrapped__ = make  # type: ignore[attr-defined]  # Readers of the signature look here.
    kind.__init__ = __init__


def _watch_steps(module: Any, path: str) -> None:
    torch = module.torch

    def stepped(optimizer: Any, *_: Any) -> None:
        try:
            # First of all, and in this form: TorchDynamo then leaves all of this out of a step that it compiles.
            if torch.compiler.is_compiling():
                return
            # An attribute is the quickest to find.
            seen = optimizer.__dict__.get("_pushtrain")
            if seen is None:
                seen = optimizer._pushtrain = _new(optimizer, path)
            seen.updated()
        except Exception:
            pass

    module.register_optimizer_step_post_hook(stepped)


def _new(optimizer: Any, path: str) -> weights.Watched:
    held = weakref.ref(optimizer)
    size = sum(tensor.numel() for tensor in _tensors(optimizer))
    return weights.Watched(("torch", type(optimizer).__name__, size), path, lambda: _sketch(held()))


def _tensors(optimizer: Any) -> list[Any]:
    every = [tensor for group in optimizer.param_groups for tensor in group["params"]]
    return [tensor for tensor in every if tensor.requires_grad and tensor.is_floating_point()]


def _sketch(optimizer: Any) -> Any:
    """The sketch of what the optimizer trains; None where it is gone, or where ranks hold different parts."""
    torch = sys.modules["torch"]
    if optimizer is None or _parts(torch, optimizer) or _captured(torch):
        return None
    with torch.no_grad():
        return sketch(torch, _tensors(optimizer))


def sketch(torch: Any, tensors: list[Any]) -> Any:
    """The 64 numbers and the sum of squares, calculated where the tensors are."""
    total = torch.zeros(weights.BUCKETS + 1, dtype=torch.float64)
    for tensor in tensors:
        flat = tensor.detach().reshape(-1)[: weights.LARGEST]
        even = flat.numel() - flat.numel() % weights.BUCKETS
        found = torch.zeros(weights.BUCKETS + 1, dtype=torch.float32, device=flat.device)
        found[:-1] = flat[:even].view(-1, weights.BUCKETS).sum(0, dtype=torch.float32)
        found[: flat.numel() - even] += flat[even:]
        found[-1] = torch.linalg.vector_norm(flat, dtype=torch.float32) ** 2
        total = total.to(flat.device) + found
    numbers = total.tolist()
    return numbers[:-1], numbers[-1]


def _captured(torch: Any) -> bool:
    return bool(torch.cuda.is_initialized() and torch.cuda.is_current_stream_capturing())


def _parts(torch: Any, optimizer: Any) -> bool:
    """Whether each rank trains a part of the model of its own."""
    if _sharded or "torch.distributed.pipelining" in sys.modules or _smaller_groups(torch):
        return True
    if any(_is_part(tensor) for tensor in _tensors(optimizer)):
        return True
    frame: Any = sys._getframe()
    while frame is not None:
        owner = frame.f_locals.get("self")
        if owner is not optimizer and type(owner).__name__ == "ZeroRedundancyOptimizer":
            return True  # The optimizer within it has this rank's share alone; its own has the whole.
        frame = frame.f_back
    return False


def _is_part(tensor: Any) -> bool:
    marks = ("tensor_model_parallel", "ds_id", "_is_flat_param")
    return type(tensor).__name__ in {"DTensor", "FlatParameter"} or any(
        getattr(tensor, mark, False) is not False for mark in marks
    )


def _smaller_groups(torch: Any) -> bool:
    """Whether there are process groups of some ranks, as tensor and pipeline parallel training have them."""
    module = sys.modules.get("torch.distributed.distributed_c10d")
    if module is None or not torch.distributed.is_initialized():
        return False
    every = torch.distributed.get_world_size()
    return any(1 < group.size() < every for group in module._world.pg_map)
