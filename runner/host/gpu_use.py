"""The GPUs of a job -> how busy they are, looked at every few seconds by a thread: NVML may take its time."""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections import deque
from typing import TYPE_CHECKING

from runner import gpus
from runner.errors import EngineError
from runner.metrics.system import Seen

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

logger = logging.getLogger(__name__)

EVERY_S = 10.0
# Of a store that is away for longer, the oldest are forgotten.
MOST_LOOKS = 1000


class GpuUse:
    """Looks from `watch` on until `watch(())`; without GPUs it does nothing and costs nothing."""

    def __init__(self, *, every_s: float = EVERY_S) -> None:
        self._every_s = every_s
        self._stop = threading.Event()
        self._latest: dict[str, float] = {}
        self._unread = ""
        self._looks: deque[tuple[float, Mapping[str, Seen]]] = deque(maxlen=MOST_LOOKS)

    def watch(self, uuids: Sequence[str]) -> None:
        """Look at these from now on, at no others any more. Does not wait."""
        self._stop.set()
        self._latest, self._unread = {}, ""
        self._looks.clear()
        self._stop = stop = threading.Event()
        if uuids:
            threading.Thread(target=self._look, args=(frozenset(uuids), stop), daemon=True).start()

    def told(self) -> dict[str, Any]:
        """What was seen since it was asked last, as fields of an event; {} for nothing.

        `gpu_util` are shares of 1, `gpu_unread` is this host and why it cannot tell of some.
        """
        latest, self._latest = self._latest, {}
        unread = {"gpu_unread": f"{socket.gethostname()}: {self._unread}"} if self._unread else {}
        return {**({"gpu_util": latest} if latest else {}), **unread}

    def looks(self) -> tuple[tuple[float, Mapping[str, Seen]], ...]:
        """What was seen since this was asked last, oldest first: each look's unix seconds, and what it saw by UUID."""
        return tuple(self._looks.popleft() for _ in range(len(self._looks)))

    def _look(self, uuids: frozenset[str], stop: threading.Event) -> None:
        while not stop.wait(self._every_s):
            try:
                seen = use(uuids)
            except EngineError as error:
                logger.warning("%s; how busy the GPUs are is not known", error)
                if not stop.is_set():
                    self._unread = str(error)
                return
            if not stop.is_set():
                self._unread = _unread(uuids, seen)
                self._latest = {uuid: each.busy for uuid, each in seen.items() if each.busy is not None}
                self._looks.append((time.time(), seen))


def use(uuids: frozenset[str]) -> dict[str, Seen]:
    """How busy these GPUs are now and how much of their memory is used, without those that this machine has not.

    Raises EngineError where the driver does not answer.
    """
    found: dict[str, Seen] = {}
    with gpus.driver() as nvml:
        for gpu, _, device in gpus.listed(nvml):
            if gpu.uuid in uuids:
                found[gpu.uuid] = Seen(busy=_busy(nvml, device), memory=_memory(nvml, device))
    return found


def _unread(uuids: frozenset[str], seen: Mapping[str, Seen]) -> str:
    """Why it is not known how busy some of them are; empty where it is of all."""
    silent = sorted(uuid for uuid in uuids if uuid not in seen or seen[uuid].busy is None)
    if not seen:
        return "no NVIDIA driver there knows the GPUs of the run"
    return f"the driver does not tell it of {', '.join(silent)}" if silent else ""


def _busy(nvml: Any, device: Any) -> float | None:
    try:
        return float(nvml.nvmlDeviceGetUtilizationRates(device).gpu / 100)
    except nvml.NVMLError_NotSupported:  # Such as MIG's instances.
        return None


def _memory(nvml: Any, device: Any) -> float | None:
    told = nvml.nvmlDeviceGetMemoryInfo(device)
    return float(told.used / told.total) if told.total else None
