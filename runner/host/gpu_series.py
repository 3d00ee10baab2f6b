"""What is seen of a node's GPUs while its ranks run -> a stream of points in the run's folder."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from runner import runs
from runner.errors import StoreError
from runner.metrics import encode
from runner.metrics.system import Thinned

if TYPE_CHECKING:
    from runner.host.gpu_use import GpuUse
    from runner.host.job import Job
    from runner.store import Store

logger = logging.getLogger(__name__)


class GpuStream:
    """Of one attempt on one node, which has a stream of its own. For one thread at a time."""

    def __init__(self, job: Job, *, store: Store, use: GpuUse) -> None:
        self._store, self._use = store, use
        self._key = runs.system_key(job.run_id, attempt=job.attempt, node=job.node_rank)
        nodes = len(job.hostnames)
        self._thinned = Thinned(job.gpus, node=job.node_rank if nodes > 1 else None, nodes=nodes)
        self._offset, self._unsent = 0, b""

    def begin(self) -> None:
        """Nothing before this moment counts: GPUs are idle while images and data are brought."""
        self._use.looks()

    def send(self, *, last: bool = False) -> None:
        """Send what was seen since the last time. A store that does not answer is tried again by the next call."""
        for time_s, seen in self._use.looks():
            self._unsent += encode(self._thinned.add(seen, time_s=time_s))
        if last:
            self._unsent += encode(self._thinned.rest())
        if not self._unsent:
            return
        try:
            self._store.append(self._key, self._unsent, offset=self._offset)
        except StoreError as error:
            logger.warning("how busy the GPUs are is not stored yet: %s", error)
        else:
            self._offset, self._unsent = self._offset + len(self._unsent), b""
