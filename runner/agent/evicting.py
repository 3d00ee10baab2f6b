"""A store and a quota -> what exceeds the quota is evicted by a process of its own, also while the store hangs."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field

logger = logging.getLogger(__name__)

# To look through a large cache on a slow disk takes minutes, to remove some hundred GiB as well.
WITHIN_S = 1800.0
_ENDS_WITHIN_S = 10.0


@dataclass(kw_only=True)
class Evicting:
    """For one thread. `argv` is the program without `--store`; each look may take `within_s`."""

    store: str
    argv: Sequence[str]
    within_s: float = WITHIN_S
    _hung: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def once(self) -> bool:
        """Look through the caches; returns whether that was done. Blocks for `within_s` twice at most. Safe to repeat.

        A store in a folder that hangs is not asked again while a process of ours waits for it in the kernel.
        """
        self._hung = [each for each in self._hung if each.poll() is None]
        if not self._hung and (done := self._run("--store", self.store)) is not None:
            return done
        logger.warning("the store %s does not answer: the caches are looked through without it", self.store)
        return bool(self._run())

    def _run(self, *further: str) -> bool | None:
        """Whether it went well; None where it did not end."""
        process = subprocess.Popen([*self.argv, *further], stdin=subprocess.DEVNULL)
        try:
            return process.wait(self.within_s) == 0
        except subprocess.TimeoutExpired:
            process.kill()
        try:
            process.wait(_ENDS_WITHIN_S)
        except subprocess.TimeoutExpired:
            self._hung.append(process)
        return None


def of_this_host(store: str, *, quota: str) -> Evicting:
    """With the lowest priority: trainings go first."""
    program = ("nice", "-n", "19", sys.executable, "-m", "runner.agent.caches", "--quota", quota)
    return Evicting(store=store, argv=program)
