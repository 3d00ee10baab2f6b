"""Jobs of one node, for tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from runner import runs
from runner.host.job import ContainerLimits, Job
from runner.launch import Process
from runner.runs import Attempt, Run, State
from runner.store import open_store

RUN = "20260101-000000-aaaaaa"


def launched(rank: int = 1, *, restartable: bool = False) -> Process:
    """A rank that a launcher starts."""
    return Process(
        rank=rank, local_rank=0, node_rank=1, argv=("x",), kind="launched", restartable=restartable
    )


def job(place: Path, *processes: Process, **others: Any) -> Job:
    """Node 1 of two, in its second attempt, with its folders below `place`."""
    given: dict[str, Any] = {
        "run_id": RUN,
        "mark": f"{RUN}:1:2:{place.name}",
        "attempt": 2,
        "node_rank": 1,
        "hostnames": ("node-0", "node-1"),
        "store": f"file://{place}/store",
        "cache": f"{place}/cache",
        "scratch": f"{place}/scratch",
        "tree": "0" * 40,
        "venv": f"{place}/venv",
        "image": None,
        "network": None,
        "limits": ContainerLimits(cpus=None, memory_bytes=None, shm_bytes=1 << 20),
        "gpus": (),
        "datasets": (),
        "outputs": "outputs",
        "logs": "logs",
        "checkpoints": "outputs/checkpoints",
        "resume": True,
        "processes": processes,
        "env": {},
        "facts": {},
        "secrets": {},
        "log_keys": {},
        "metrics_key": None,
        "live_prefix": f"runs/{RUN}/live/node-1/",
        "chief_prefix": f"runs/{RUN}/live/node-0/",
        "world_size": 2,
    }
    return Job(**given | others)


def note_run(place: Path, *, attempts: int = 2, state: State = State.RUNNING) -> None:
    """Have the store say where the run of a `job` stands, as its supervisor does."""
    begun = tuple(Attempt(number=number, started_at_s=float(number)) for number in range(1, attempts + 1))
    run = Run(
        id=RUN, name="job", engine="slurm", plan_hash="x", state=state, created_at_s=0.0, attempts=begun
    )
    open_store(f"file://{place}/store").write(runs.key(RUN, "run.json"), runs.to_json(run))
