"""What a run wants -> the arguments of sbatch, and the batch script: pure."""

from __future__ import annotations

import hashlib
import math
import re
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from runner.slurm.labels import constraint

if TYPE_CHECKING:
    from collections.abc import Collection

    from runner.place import Gang

_HERE = Path(__file__).parent
# One step of `policy.priority` outweighs any number of runs that came before: Slurm counts those down by one each.
_NICE_STEP = 100_000
# The supervisor ends a run at `timeout.run` itself, and keeps its outputs then; Slurm's own limit is behind it.
_AFTER_LIMIT_S = 3600.0


@dataclass(frozen=True, kw_only=True)
class Wish:
    """One run as a job. `gres_type` is the type of GPU as the cluster calls it, `features` what every host must have.
    Of the `gpu_features` all hosts have the same one.

    `limit_s` is how long it may train, None for ever. `after` are jobs that have to end first. `partition` and
    `account` are None where the cluster's defaults are taken.
    """

    run_id: str
    comment: str
    gang: Gang
    gres_type: str | None
    features: tuple[str, ...]
    priority: int
    limit_s: float | None
    after: tuple[str, ...] = ()
    partition: str | None = None
    account: str | None = None
    gpu_features: tuple[str, ...] = ()


def options(wish: Wish, *, names: Collection[str]) -> tuple[str, ...]:
    """The arguments of sbatch: one job that gets all its hosts or none, and is put back if it loses one.

    `names` are the variables of the caller's environment that the job gets. They are named here and never shown.
    """
    gang = wish.gang
    nodes = f"{gang.min_nodes}-{gang.nodes}" if gang.min_nodes else str(gang.nodes)
    kind = f"gpu:{wish.gres_type}" if wish.gres_type else "gpu"
    optional = {
        "--gres": f"{kind}:{gang.gpus_per_node}" if gang.gpus_per_node else None,
        "--cpus-per-task": str(math.ceil(gang.cpus)) if gang.cpus else None,
        "--mem": f"{math.ceil(gang.memory_bytes / 2**20)}M" if gang.memory_bytes else None,
        "--constraint": constraint(wish.features, wish.gpu_features) or None,
        "--time": str(math.ceil((wish.limit_s + _AFTER_LIMIT_S) / 60)) if wish.limit_s else None,
        "--partition": wish.partition,
        "--account": wish.account,
    }
    return (
        f"--job-name={wish.run_id}",
        # Of two jobs of one run, submitted by two that took it up at the same moment, the later finds it ended.
        f"--dependency={','.join(('singleton', *(f'afterany:{job}' for job in wish.after)))}",
        f"--comment={wish.comment}",
        f"--nodes={nodes}",
        "--ntasks-per-node=1",
        f"--nice={(100 - wish.priority) * _NICE_STEP}",
        *(f"{name}={value}" for name, value in optional.items() if value is not None),
        "--requeue",
        "--open-mode=append",
        "--chdir=/",
        f"--export={','.join(sorted(names)) or 'NIL'}",
        "--parsable",
    )


def mark(group: str, *, store: str) -> str:
    """The last word of the comment of all jobs of a group of runs: Slurm then tells which they are, and no run is read.

    Runs of other stores are other runs.
    """
    return "group:" + hashlib.sha256(f"{store} {group}".encode()).hexdigest()[:16]


def unmarked(comment: str) -> str:
    """The comment of a job for people: without that word."""
    return re.sub(r" group:[0-9a-f]{16}$", "", comment)


def script(run_id: str, *, store: str, home: str, folder: Path) -> str:
    """The batch script. `home` is where hosts without an agent keep their things, empty for their default."""
    settings = {
        "on_host": on_host(),
        "python": sys.executable,
        "home": home,
        "folder": str(folder),
        "run": run_id,
        "store": store,
    }
    shebang, _, rest = (_HERE / "batch").read_text().partition("\n")
    told = "\n".join(f"{name}={shlex.quote(text)}" for name, text in settings.items())
    return f"{shebang}\n{told}\n{rest}"


def on_host() -> str:
    """A program for `sh -c` that starts Python on whichever host it runs on."""
    return (_HERE / "on-host").read_text()
