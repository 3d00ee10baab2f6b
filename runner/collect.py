"""Sealed folders and metric points of a run -> its manifest, its series and the verdict on its primary metric."""

from __future__ import annotations

from typing import TYPE_CHECKING

from runner import metrics, runs
from runner.manifest import FileEntry, Manifest

if TYPE_CHECKING:
    from collections.abc import Mapping

    from runner.metrics import Series, Verdict
    from runner.plan import Gate
    from runner.store import Store

BASE_BRANCHES = ("main", "master")


def manifest(sealed: Mapping[int, list[dict[str, object]]]) -> Manifest:
    """One manifest of all nodes: node 0's paths as they are, those of node N below `node-N/`."""
    files = [
        FileEntry(**{**entry, "path": f"node-{node}/{entry['path']}" if node else entry["path"]})  # type: ignore[arg-type]  # JSON
        for node, entries in sealed.items()
        for entry in entries
    ]
    return Manifest(files=tuple(sorted(files, key=lambda f: f.path)))


def series(store: Store, run_id: str) -> Mapping[str, Series]:
    """The run's metrics so far."""
    return metrics.series(metrics.decode(store.tail(runs.metrics_key(run_id), offset=0)))


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


def judge(store: Store, run_id: str, gate: Gate) -> Verdict | None:
    """The verdict on the primary metric; None where train.yml names none."""
    if gate.primary is None:
        return None
    run = runs.load(store, run_id)
    base = _base(store, run) if gate.relative else None
    return metrics.judge(
        series(store, run_id),
        primary=gate.primary,
        goal=gate.goal,
        fail_if=gate if gate.operator is not None else None,  # type: ignore[arg-type]  # has an operator here
        base=base,
    )


def _base(store: Store, run: runs.Run) -> float | None:
    """The primary metric of the newest run of the same name that succeeded on the base branch."""
    for other in runs.listing(store, state=runs.State.SUCCEEDED):
        if other.name == run.name and other.id != run.id and other.branch in BASE_BRANCHES and other.metric:
            return other.metric[1]
    return None
