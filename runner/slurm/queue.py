"""squeue -> the jobs of the cluster."""

from __future__ import annotations

import calendar
import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from runner.slurm.client import Slurm

# Fields of `squeue -O`, each of so many bytes: names of jobs may hold any separator, line breaks as well.
_FIELDS = (
    "JobID", "Name", "StateCompact", "Reason", "PriorityLong", "Partition", "UserName", "NumNodes", "NodeList",
    "tres-per-node", "SubmitTime", "StartTime", "TimeLimit", "RestartCnt", "Comment", "Feature", "ReqNodes",
    "SchedNodes", "tres-per-job",
)  # fmt: skip
_ROOM = 256
_COMMENT_ROOM = 1024
_STATES = {"PD": "PENDING", "R": "RUNNING", "CG": "COMPLETING", "CF": "CONFIGURING", "S": "SUSPENDED"}


@dataclass(frozen=True, kw_only=True)
class Job:
    """A job that is waiting or running. `name` is the run's id where it is a run; times are seconds since 1970 (UTC).

    `starts_at_s` is when it started, of one that waits Slurm's own estimate, None while it has none. `gpus_per_node`
    counts GPUs, of `gpu_type` where it asks for one. `hosts` is Slurm's list, such as `gpu[1-3]`; empty while it waits.
    """

    id: str
    name: str
    state: str
    reason: str
    priority: int
    partition: str
    user: str
    nodes: int
    hosts: str
    gpus_per_node: int
    submitted_at_s: float
    starts_at_s: float | None
    restarts: int
    comment: str
    features: str
    gpu_type: str = ""

    @property
    def waits(self) -> bool:
        """Whether it has no hosts yet."""
        return self.state == "PENDING"

    @property
    def starting(self) -> bool:
        """Whether its hosts are not there yet, or not ready for it: they may have to be started first."""
        return self.state == "CONFIGURING"

    @property
    def held(self) -> bool:
        """Whether Slurm itself starts it never, until somebody releases it."""
        return self.waits and self.priority == 0


def jobs(slurm: Slurm, *, name: str | None = None) -> tuple[Job, ...]:
    """All jobs in the queue that wait or run, or those of a name; one that is waited for first stands first.

    Raises EngineError.
    """
    chosen = ("--name", name) if name is not None else ()
    wide = ",".join(f"{field}:{_ROOM}" for field in _FIELDS)
    text = slurm.run("squeue", "--noheader", "--all", "--sort=S,-p,i", *chosen, "-O", wide)
    return read(text)


def marked(slurm: Slurm, word: str) -> tuple[str, ...]:
    """The ids of all jobs in the queue whose comment ends with that word. Raises EngineError.

    Of very many jobs this costs a tenth of `jobs`.
    """
    wide = f"JobID:{_ROOM},Comment:{_COMMENT_ROOM}"
    text = slurm.run("squeue", "--noheader", "--all", "-O", wide)
    return read_marked(text, word)


def ended_on(slurm: Slurm, name: str) -> tuple[str, int] | None:
    """Where the batch script of the last job of a name ended, and its exit code; None where Slurm knows it no more.

    Slurm forgets jobs minutes after their end (MinJobAge). Raises EngineError.
    """
    wide = f"BatchHost:{_ROOM},exit_code:{_ROOM}"
    text = slurm.run("squeue", "--noheader", "--states=all", "--sort=-i", "--name", name, "-O", wide)
    return read_ended_on(text)


def read_ended_on(text: str) -> tuple[str, int] | None:
    """As `ended_on`, of what squeue printed: the status as of wait(2), 16896 for 66. Pure."""
    words = text.split()[:2]
    if len(words) < 2 or not words[1].isdigit():
        return None
    try:
        return words[0], os.waitstatus_to_exitcode(int(words[1]))
    except (OverflowError, ValueError):
        return None  # NO_VAL, or the status of a process that has only stopped.


def read_marked(text: str, word: str) -> tuple[str, ...]:
    """As `marked`, of what squeue printed. Pure."""
    data, length = text.encode("utf-8", "surrogateescape"), _ROOM + _COMMENT_ROOM
    records = (data[at : at + length] for at in range(0, len(data) - length + 1, length + 1))
    end = f" {word}".encode()
    return tuple(each[:_ROOM].decode().strip() for each in records if each.rstrip().endswith(end))


def read(text: str) -> tuple[Job, ...]:
    """The jobs that squeue printed, in its order; bytes that are no UTF-8 are surrogates in `text`. Pure."""
    data, length = text.encode("utf-8", "surrogateescape"), len(_FIELDS) * _ROOM
    # Each is followed by a line break.
    return tuple(_job(data[at : at + length]) for at in range(0, len(data) - length + 1, length + 1))


def _job(record: bytes) -> Job:
    cells = (record[at : at + _ROOM].decode(errors="replace").strip() for at in range(0, len(record), _ROOM))
    values = dict(zip(_FIELDS, cells, strict=True))
    nodes = int(values["NumNodes"].partition("-")[0] or 1)
    whole = gpus(values["tres-per-job"])
    return Job(
        id=values["JobID"],
        name=values["Name"],
        state=_STATES.get(values["StateCompact"], values["StateCompact"]),
        reason=values["Reason"],
        priority=int(values["PriorityLong"] or 0),
        partition=values["Partition"],
        user=values["UserName"],
        nodes=nodes,
        hosts=values["NodeList"],
        gpus_per_node=gpus(values["tres-per-node"]) or -(-whole // nodes),
        submitted_at_s=_seconds(values["SubmitTime"]) or 0.0,
        starts_at_s=_seconds(values["StartTime"]),
        restarts=int(values["RestartCnt"] or 0),
        comment=_or_empty(values["Comment"]),
        features=_or_empty(values["Feature"]),
        gpu_type=gpu_type(values["tres-per-node"]) or gpu_type(values["tres-per-job"]),
    )


def gpus(text: str) -> int:
    """How many GPUs `gres:gpu:h100:8` or `gpu:2` means; 0 for none."""
    found = 0
    for entry in text.split(","):
        words = entry.partition("(")[0].removeprefix("gres:").replace("=", ":").split(":")
        if words[0] == "gpu":
            found += int(words[-1]) if words[-1].isdigit() else 1
    return found


def gpu_type(text: str) -> str:
    """`h100` of `gres:gpu:h100:8`; empty where any type would do."""
    for entry in text.split(","):
        words = entry.partition("(")[0].removeprefix("gres:").replace("=", ":").split(":")
        if words[0] == "gpu" and len(words) > 1 and not words[1].isdigit():
            return words[1]
    return ""


def _seconds(text: str) -> float | None:
    try:
        return float(calendar.timegm(time.strptime(text, "%Y-%m-%dT%H:%M:%S")))
    except ValueError:
        return None  # N/A


def _or_empty(text: str) -> str:
    return "" if text in ("(null)", "N/A") else text
