"""A node's GPUs -> what each of its ranks sees of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from runner.place import Slot

_VARIABLE = "CUDA_VISIBLE_DEVICES"


def dealt(slot: Slot, *, number: int, among: int) -> dict[str, str]:
    """The share of rank `number` of `among`: as many GPUs for each where there is one at least, else all of them."""
    each = len(slot.gpus) // among
    return _seen(slot.gpus[number * each : (number + 1) * each] if each else slot.gpus)


def shared(slot: Slot) -> dict[str, str]:
    """All GPUs of the node, for ranks that choose by their local rank themselves.

    Programs for Horovod and torchrun do (`gpus[hvd.local_rank()]`, `torch.cuda.set_device(LOCAL_RANK)`): where each
    rank saw its own GPU alone, the second rank's would be out of range.
    """
    return _seen(slot.gpus)


def none() -> dict[str, str]:
    """No GPU, for ranks that do not compute: a TensorFlow that sees one takes all of its memory."""
    return _seen(())


def _seen(gpus: tuple[str, ...]) -> dict[str, str]:
    return {_VARIABLE: ",".join(gpus)}
