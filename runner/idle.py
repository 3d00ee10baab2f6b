"""How busy the GPUs of a run are, as its hosts tell -> those that do nothing, with their ranks: pure."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from runner.quantities import format_duration

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from runner.launch import Process
    from runner.plan import Limits

# Without `policy.min_gpu_util` a run is only warned.
WARNS_BELOW = 0.05
WARNS_AFTER_S = 1800.0
# The mean of the time is taken over so many parts of it, so that it does not matter how often hosts look.
PARTS = 30
NAMED = 8
# Hosts look at different moments: whoever is nearly as long idle is named as well.
_NEARLY = 0.9
BEGINS = "GPUs were idle"


@dataclass(frozen=True, kw_only=True)
class Idle:
    """GPUs that did too little: `sentence` names them; `stops` says whether the run is to end for it."""

    sentence: str
    stops: bool


@dataclass(kw_only=True)
class _Seen:
    """One GPU: `parts` are sums and counts of what was told, the latest last, each of one part of the time."""

    since_s: float
    at_s: float
    parts: deque[tuple[int, float, int]] = field(default_factory=lambda: deque(maxlen=PARTS))

    @property
    def mean(self) -> float:
        return sum(total for _, total, _ in self.parts) / sum(count for _, _, count in self.parts)


class Watch:
    """The GPUs of one attempt, from the moment in which all ranks run."""

    def __init__(self, processes: Sequence[Process], limits: Limits) -> None:
        self._processes = processes
        self._stops = limits.min_gpu_util is not None
        self._below = limits.min_gpu_util if limits.min_gpu_util is not None else WARNS_BELOW
        self._after_s = limits.idle_after_s if self._stops else WARNS_AFTER_S
        self._seen: dict[tuple[int, str], _Seen] = {}
        self._is_told = False
        self._unread: set[str] = set()

    def add(self, node: int, used: Mapping[str, float], *, now_s: float) -> Idle | None:
        """What a node tells of its GPUs, shares of 1 by UUID; what follows is returned once, None until then."""
        for uuid, share in used.items():
            seen = self._seen.setdefault((node, uuid), _Seen(since_s=now_s, at_s=now_s))
            self._note(seen, share, now_s)
        if self._is_told or not any(self._is_idle(seen, share=1.0) for seen in self._seen.values()):
            return None
        self._is_told = True
        return Idle(sentence=self._sentence(), stops=self._stops)

    def unread(self, told: str) -> str:
        """What follows where a host says that it cannot tell how busy its GPUs are, and why; empty if nothing new."""
        if not told or not self._stops or told in self._unread:
            return ""
        self._unread.add(told)
        return (
            f"GPU use cannot be read on {told}; policy.min_gpu_util has no effect there; try nvidia-smi on it"
        )

    def _note(self, seen: _Seen, share: float, now_s: float) -> None:
        number = int((now_s - seen.since_s) * PARTS / self._after_s)
        total, count = 0.0, 0
        if seen.parts and seen.parts[-1][0] == number:
            _, total, count = seen.parts.pop()
        seen.parts.append((number, total + share, count + 1))
        while seen.parts[0][0] <= number - PARTS:
            seen.parts.popleft()
        seen.at_s = now_s

    def _is_idle(self, seen: _Seen, *, share: float) -> bool:
        return seen.at_s - seen.since_s >= share * self._after_s and seen.mean < self._below

    def _sentence(self) -> str:
        idle = [
            (*key, seen) for key, seen in sorted(self._seen.items()) if self._is_idle(seen, share=_NEARLY)
        ]
        named = [f"{self._named(node, uuid)} {seen.mean:.0%}" for node, uuid, seen in idle[:NAMED]]
        more = f" and {len(idle) - NAMED} more" if len(idle) > NAMED else ""
        over = f"over the last {format_duration(self._after_s)}"
        wanted = f"; policy.min_gpu_util asks for {self._below:.0%}" if self._stops else ""
        return f"{BEGINS}: {', '.join(named)}{more} {over}{wanted}"

    def _named(self, node: int, uuid: str) -> str:
        """Such as `GPU-8d3cabcd (node 1, rank 3)`: as much of its UUID as nvidia-smi -L needs to be searched for."""
        ranks = self._ranks(node, uuid)
        places = [f"node {node}"] if len({process.node_rank for process in self._processes}) > 1 else []
        if ranks:
            places.append(f"rank{'s' * (len(ranks) > 1)} {', '.join(map(str, ranks))}")
        return f"{uuid[:12]} ({', '.join(places)})" if places else uuid[:12]

    def _ranks(self, node: int, uuid: str) -> list[int]:
        """Who computes on it. Of ranks that see several GPUs each takes the one of its local rank."""
        seen = [
            (process, gpus)
            for process in self._processes
            if process.node_rank == node and process.kind != "launcher"
            if uuid in (gpus := process.env.get("CUDA_VISIBLE_DEVICES", "").split(","))
        ]
        own = [process.rank for process, gpus in seen if gpus.index(uuid) == process.local_rank]
        return own if own and len(seen) > 1 else [process.rank for process, _ in seen]
