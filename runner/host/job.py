"""What the supervisor tells a host to do, and the environment that a rank gets: pure."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runner.datasets import Dataset
from runner.launch import Process
from runner.metrics.mlflow import tracking_environment

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, kw_only=True)
class ContainerLimits:
    """What a rank's container may use: an even share of its node; None where train.yml sets no limit."""

    cpus: float | None
    memory_bytes: int | None
    shm_bytes: int
    pids: int = 4096


@dataclass(frozen=True, kw_only=True)
class Job:
    """One node's part of one attempt of a run. Secrets travel in it, over the pipe alone, and are never stored.

    The containers of an `isolated` job reach each other and nothing else. With `host_network` containers use the
    network of their host, and `addresses` has that of each node. The ranks get `grace_s` to end.
    """

    run_id: str
    mark: str
    attempt: int
    node_rank: int
    hostnames: tuple[str, ...]
    store: str
    cache: str
    scratch: str
    tree: str
    venv: str | None
    image: str | None
    network: str | None
    limits: ContainerLimits
    gpus: tuple[str, ...]
    datasets: tuple[Dataset, ...]
    outputs: str
    logs: str
    checkpoints: str | None
    resume: bool
    processes: tuple[Process, ...]
    env: Mapping[str, tuple[tuple[str, str], ...]]
    facts: Mapping[str, str]
    secrets: Mapping[str, str] = field(repr=False)
    log_keys: Mapping[str, str]
    metrics_key: str | None
    live_prefix: str
    chief_prefix: str = ""
    isolated: bool = False
    world_size: int = 1
    per_rank: bool = False
    divergence: str = "ignore"
    host_network: bool = False
    addresses: tuple[str, ...] = ()
    grace_s: float = 30.0

    @property
    def work(self) -> Path:
        """The folder in which the ranks of this node run."""
        return Path(self.scratch) / "work"

    @property
    def is_gang(self) -> bool:
        """Whether there are several ranks, or a launcher."""
        return self.world_size > 1 or any(process.kind != "direct" for process in self.processes)

    @property
    def saves_for_others(self) -> bool:
        """Whether other nodes go on from the checkpoints that this one has."""
        shared = self.resume and self.checkpoints and self.processes and len(self.hostnames) > 1
        return bool(shared) and self.node_rank == 0

    @property
    def follows(self) -> bool:
        """Whether this node goes on from the checkpoints that node 0 has."""
        shared = self.resume and self.checkpoints and self.chief_prefix and self.processes
        return bool(shared) and self.node_rank != 0

    @property
    def gang_folder(self) -> Path:
        """Where this host and the processes of its node meet: on this host, see `gang_place`."""
        return Path(self.scratch) / "gang"

    @property
    def gang_place(self) -> Path:
        """The same folder as the processes see it."""
        return self.gang_folder if self.image is None else IN_CONTAINER

    @property
    def brought(self) -> Path:
        """Where the checkpoints of node 0 are brought for an attempt that goes on from them."""
        return self.gang_folder / BROUGHT

    def prefixed(self, argv: tuple[str, ...]) -> tuple[str, ...]:
        """The command as it is started in a gang."""
        return ("/bin/sh", str(self.gang_place / "bin" / "pushtrain-start"), *argv) if self.is_gang else argv

    def to_json(self) -> dict[str, Any]:
        """Plain data for the pipe."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Job:
        """The reverse of `to_json`."""
        return cls(
            **{
                **data,
                "limits": ContainerLimits(**data["limits"]),
                "datasets": tuple(Dataset(**d) for d in data["datasets"]),
                "processes": tuple(Process(**{**p, "argv": tuple(p["argv"])}) for p in data["processes"]),
                "hostnames": tuple(data["hostnames"]),
                "addresses": tuple(data["addresses"]),
                "gpus": tuple(data["gpus"]),
            }
        )


IN_CONTAINER = Path("/pushtrain")
BROUGHT = "resume"

# What a program needs of its machine; everything else of the caller's environment stays outside the run.
_MACHINE = ("PATH", "HOME", "USER", "LOGNAME", "LANG", "TZ", "TMPDIR", "SSL_CERT_FILE", "SSL_CERT_DIR",
            "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy",
            "https_proxy", "no_proxy", "LD_LIBRARY_PATH", "CUDA_HOME")  # fmt: skip


def machine_environment(environ: Mapping[str, str], *, venv: Path) -> dict[str, str]:
    """The part of `environ` that a local rank inherits, with the environment's programs found first."""
    kept = {name: environ[name] for name in _MACHINE if name in environ}
    kept.update({name: value for name, value in environ.items() if name.startswith("LC_")})
    path = environ.get("PATH", os.defpath)
    return {**kept, "PATH": f"{venv / 'bin'}{os.pathsep}{path}", "VIRTUAL_ENV": str(venv)}


def rank_environment(
    job: Job, process: Process, *, work: Path, datasets: Mapping[str, str]
) -> dict[str, str]:
    """What a rank is told: `work` and the data sets' paths are as the rank sees them.

    `env:` of train.yml comes last, so that it may set anything, and may refer to all that comes before it.
    """
    outputs = work / job.outputs
    told = {
        "PYTHONUNBUFFERED": "1",
        "PUSHTRAIN_MARK": job.mark,
        "PUSHTRAIN_OUTPUTS": str(outputs / f"rank-{process.rank}" if job.per_rank else outputs),
        "PUSHTRAIN_LOGS": str(work / job.logs),
        **job.facts,
        **{dataset_variable(name): path for name, path in datasets.items()},
        **job.secrets,
        **process.env,
    }
    if job.is_gang:
        told |= {"PUSHTRAIN_GANG": str(job.gang_place), "PUSHTRAIN_DIVERGENCE": job.divergence}
    if job.resume and job.checkpoints and any_file(job.brought / job.checkpoints):
        told["PUSHTRAIN_RESUME_FROM"] = str(job.gang_place / BROUGHT / job.checkpoints)
    elif job.resume and job.checkpoints and any_file(job.work / job.checkpoints):
        told["PUSHTRAIN_RESUME_FROM"] = str(work / job.checkpoints)
    own = {
        name: "".join(text if kind == "text" else told[text] for kind, text in pieces)
        for name, pieces in job.env.items()
    }
    tracking = tracking_environment(work / job.logs, own, run_id=job.run_id)
    return {**told, **tracking, **own}


def dataset_variable(name: str) -> str:
    """The environment variable that holds a data set's path: `mnist-train` -> `PUSHTRAIN_DATASET_MNIST_TRAIN`."""
    return "PUSHTRAIN_DATASET_" + name.upper().replace("-", "_")


def any_file(folder: Path) -> bool:
    """Whether there is a file anywhere below `folder`."""
    return any(path.is_file() for path in folder.rglob("*")) if folder.is_dir() else False
