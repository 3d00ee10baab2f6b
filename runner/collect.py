"""Sealed folders and metric points of a run -> its manifest, its series and the verdict on its primary metric."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from runner import metrics, runs
from runner.manifest import FileEntry, Manifest
from runner.metrics import system
from runner.writers import shown

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from runner.host.channel import Event
    from runner.metrics import Series, Verdict
    from runner.metrics.system import GpuSeries
    from runner.plan import Gate, Plan
    from runner.runs import Run
    from runner.store import Store

BASE_BRANCHES = ("main", "master")
MOST_WARNINGS = 20


@dataclass(frozen=True, kw_only=True)
class OfRanks:
    """The folder in which every rank has a folder of its own, `outputs/rank-R`, and how many ranks a node has."""

    folder: str
    per_node: int

    @classmethod
    def of(cls, plan: Plan) -> OfRanks | None:
        """None where all ranks of a node have one folder."""
        if not plan.folders.per_rank:
            return None
        return cls(folder=plan.folders.outputs, per_node=plan.gang.processes_per_node)

    def has(self, node: int, path: str) -> bool:
        """Whether the path lies in the folder of one of this node's own ranks."""
        ranks = range(node * self.per_node, (node + 1) * self.per_node)
        return any(path.startswith(f"{self.folder}/rank-{rank}/") for rank in ranks)

    def names(self, path: str) -> bool:
        """Whether the path lies in the folder of a rank, of whichever node."""
        return path.startswith(f"{self.folder}/rank-")


def manifest(sealed: Mapping[int, Event], *, of_ranks: OfRanks | None = None) -> Manifest:
    """One manifest of all nodes: node 0's paths as they are, those of node N below `node-N/`.

    With `of_ranks`, the folder of a rank is left where it is on the rank's own node; what another node, the first too,
    wrote into it lies below `node-N/`.
    """
    files = [
        FileEntry(**{**entry, "path": _of(node, entry["path"], of_ranks=of_ranks)})
        for node, event in sealed.items()
        for entry in event["manifest"]
    ]
    return Manifest(files=tuple(sorted(files, key=lambda f: f.path)))


def warnings(sealed: Mapping[int, Event], *, of_ranks: OfRanks | None = None) -> tuple[str, ...]:
    """A sentence for what the ranks wrote and was not kept; cut after the first few."""
    told = [
        f"{shown(_of(node, path, of_ranks=of_ranks))} is not kept: {why}"
        for node, event in sealed.items()
        for path, why in event["skipped"].items()
    ]
    more = (f"and {len(told) - MOST_WARNINGS} more are not kept",) if len(told) > MOST_WARNINGS else ()
    return (*told[:MOST_WARNINGS], *more)


def written_twice(
    sealed: Mapping[int, Event], outputs: str, *, of_ranks: OfRanks | None = None
) -> tuple[str, ...]:
    """A sentence for each output that two nodes wrote with other content: rank 0's is the run's, or the rank's own."""
    written = [(node, entry) for node, event in sorted(sealed.items()) for entry in event["manifest"]]
    kept = [_of(node, entry["path"], of_ranks=of_ranks) for node, entry in written]
    own = {
        entry["path"]: (node, entry["digest"])
        for (node, entry), place in zip(written, kept, strict=True)
        if place == entry["path"]
    }
    told = [
        f"node {node} wrote {shown(path)} too: that of {_whose(own[path][0])} is the run's, the other is kept as "
        f"{shown(place)}; {_instead(of_ranks)}"
        for (node, entry), place in zip(written, kept, strict=True)
        if (path := entry["path"]).startswith(f"{outputs}/")
        and path in own
        and own[path][1] != entry["digest"]
    ]
    more = (
        (f"and {len(told) - MOST_WARNINGS} more that several nodes wrote",)
        if len(told) > MOST_WARNINGS
        else ()
    )
    return (*told[:MOST_WARNINGS], *more)


def _whose(node: int) -> str:
    return f"node {node}" if node else "rank 0's node"


def _instead(of_ranks: OfRanks | None) -> str:
    if of_ranks is None:
        return "write on rank 0 alone, or set `outputs.per_rank: true`"
    return "write into the folder that PUSHTRAIN_OUTPUTS names, each rank into its own"


def _of(node: int, path: str, *, of_ranks: OfRanks | None) -> str:
    if of_ranks is not None and of_ranks.names(path):
        return path if of_ranks.has(node, path) else f"node-{node}/{path}"
    return f"node-{node}/{path}" if node else path


def series(store: Store, run_id: str) -> Mapping[str, Series]:
    """The run's metrics so far."""
    return metrics.series(metrics.decode(store.tail(runs.metrics_key(run_id), offset=0)))


class GpusSoFar:
    """What a run's GPUs did so far, for whoever asks again and again."""

    def __init__(self, store: Store, run_id: str) -> None:
        self._store, self._prefix = store, runs.key(run_id, "system/")
        self._read: dict[str, bytes] = {}

    def read(self) -> tuple[GpuSeries, ...]:
        """What `gpus` returns; of the store only what is new is read."""
        for key in set(self._store.keys(self._prefix)):
            known = self._read.get(key, b"")
            self._read[key] = known + self._store.tail(key, offset=len(known))
        return system.by_gpu(metrics.decode(self._read[key]) for key in sorted(self._read))


def gpus(store: Store, run_id: str) -> tuple[GpuSeries, ...]:
    """What the run's GPUs did so far, by node and number; () where it had none, or was too short to be looked at."""
    return GpusSoFar(store, run_id).read()


def add_remote_metrics(store: Store, run_id: str, environ: Mapping[str, str]) -> None:
    """Add what the run logged to an MLflow server of the user's own, where `environ` names one. Safe to repeat.

    Raises StoreError where the server does not answer.
    """
    uri = environ.get("MLFLOW_TRACKING_URI", "")
    if not uri.startswith(("http://", "https://")):
        return
    from runner.metrics.mlflow_server import poll_remote

    key = runs.metrics_key(run_id)
    points = poll_remote(uri, run_id, environ=environ)
    store.append(key, metrics.encode(points), offset=len(store.tail(key, offset=0)))


def judge(
    store: Store, run_id: str, gate: Gate, *, branches: Collection[str] = BASE_BRANCHES
) -> Verdict | None:
    """The verdict on the primary metric; None where train.yml names none.

    Where the gate is relative, it is compared with the newest good run on one of `branches`.
    """
    if gate.primary is None:
        return None
    base = None
    if gate.relative:
        name = runs.load(store, run_id).name
        base = base_run(store, name=name, before=run_id, metric=gate.primary, branches=branches)
    return metrics.judge(
        series(store, run_id),
        primary=gate.primary,
        goal=gate.goal,
        fail_if=gate if gate.operator is not None else None,  # type: ignore[arg-type]  # has an operator here
        base=base.metric[1] if base is not None and base.metric is not None else None,
    )


def measured(gate: Gate, verdict: Verdict) -> tuple[str, float] | None:
    """The primary metric as run.json keeps it; None where it has no finite value, which JSON cannot hold."""
    if verdict.value is None or not math.isfinite(verdict.value):
        return None
    return str(gate.primary), verdict.value


def base_branches(base: str | None) -> tuple[str, ...]:
    """The branches whose runs are compared with: the base branch where it is known."""
    return (base,) if base else BASE_BRANCHES


def base_run(
    store: Store, *, name: str, before: str, metric: str | None, branches: Collection[str]
) -> Run | None:
    """The newest run of that name before the run `before` that succeeded on one of `branches` and has the metric.

    A fork's run is never one, whatever its branch is called. With `metric` None any will do.
    """
    for other in runs.listing(store, state=runs.State.SUCCEEDED):
        earlier = other.name == name and other.id < before
        measured_it = metric is None or (other.metric is not None and other.metric[0] == metric)
        if earlier and measured_it and not other.isolated and other.branch in branches:
            return other
    return None
