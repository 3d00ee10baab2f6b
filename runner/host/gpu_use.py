"""The GPUs of a job -> how busy they are, looked at every few seconds by a thread: NVML may take its time."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING

from runner import gpus
from runner.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Sequence

logger = logging.getLogger(__name__)

EVERY_S = 10.0


class GpuUse:
    """Looks from `watch` on until `watch(())`; without GPUs it does nothing and costs nothing."""

    def __init__(self, *, every_s: float = EVERY_S) -> None:
        self._every_s = every_s
        self._stop = threading.Event()
        self._latest: dict[str, float] = {}

    def watch(self, uuids: Sequence[str]) -> None:
        """Look at these from now on, at no others any more. Does not wait."""
        self._stop.set()
        self._latest = {}
        self._stop = stop = threading.Event()
        if uuids:
            threading.Thread(target=self._look, args=(frozenset(uuids), stop), daemon=True).start()

    def told(self) -> dict[str, dict[str, float]]:
        """What was seen since it was asked last, as a field of an event: `gpu_util`, shares of 1; {} for nothing."""
        latest, self._latest = self._latest, {}
        return {"gpu_util": latest} if latest else {}

    def _look(self, uuids: frozenset[str], stop: threading.Event) -> None:
        while not stop.wait(self._every_s):
            try:
                seen = use(uuids)
            except EngineError as error:
                logger.warning("%s; how busy the GPUs are is not known", error)
                return
            if not stop.is_set():
                self._latest = seen


def use(uuids: frozenset[str]) -> dict[str, float]:
    """How busy these GPUs are now, a share of 1; without those of which NVML does not tell, such as MIG's instances.

    Raises EngineError where the driver does not answer.
    """
    found: dict[str, float] = {}
    with gpus.driver() as nvml:
        for gpu, _, device in gpus.listed(nvml):
            if gpu.uuid not in uuids:
                continue
            try:
                found[gpu.uuid] = nvml.nvmlDeviceGetUtilizationRates(device).gpu / 100
            except nvml.NVMLError_NotSupported:
                continue
    return found
