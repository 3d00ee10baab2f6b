"""squeue -> the jobs of the cluster."""

from __future__ import annotations

import calendar
import os
import re
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from runner.slurm.client import Slurm

# Fields of `squeue -O`, each of so many bytes: names of jobs may hold any separator, line breaks as well.
_FIELDS = (
    "JobID", "Name", "StateCompact", "Reason", "PriorityLong", "Partition", "UserName", "NumNodes", "NodeList",
    "tres-per-node", "SubmitTime", "StartTime", "TimeLimit", "RestartCnt", "Comment", "Feature", "ReqNodes",
    "SchedNodes", "tres-per-job",
)  # fmt: skip
_ROOM = 256
_COMMENT_ROOM = 1024
# How a job ends other than by its own doing, and what of it is worth telling; squeue(1), JOB STATE CODES.
ENDED = {
    "TIMEOUT": "a time limit was reached: its own, its partition's, or the hours of its account",
    "CANCELLED": "somebody cancelled it in Slurm (scancel)",
    "DEADLINE": "its deadline in Slurm was reached",
    "NODE_FAIL": "a host was lost, and Slurm did not put it back",
    "PREEMPTED": "another job took its hosts, and Slurm did not put it back",
    "OUT_OF_MEMORY": "it used up the memory that Slurm gave it",
    "BOOT_FAIL": "a host did not boot",
}
_PREFIX = re.compile(r"gres[:/]")
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
    text = slurm.run("squeue", "--noheader", "--all", "--states=all", "--sort=-i", "--name", name, "-O", wide)
    return read_ended_on(text)


def ended_by(slurm: Slurm, name: str) -> str:
    """Why the last job of a name was ended for good, in words; empty where it ended by itself, or is forgotten.

    Raises EngineError.
    """
    wide = f"State:{_ROOM},exit_code:{_ROOM}"
    text = slurm.run("squeue", "--noheader", "--all", "--states=all", "--sort=-i", "--name", name, "-O", wide)
    state, ended = next(iter(text.split()), ""), read_ended_on(text)
    if state == "FAILED" and ended is not None and ended[1] < 0:
        return f"its batch script was killed (signal {-ended[1]})"
    return f"{ENDED[state]} ({state})" if state in ENDED else ""


def read_ended_on(text: str) -> tuple[str, int] | None:
    """As `ended_on`, of what squeue printed: `66:0`, or up to Slurm 22.05 a status of wait(2), 16896 for 66. Pure."""
    words = text.split()[:2]
    if len(words) < 2:
        return None
    if told := re.fullmatch(r"(\d+):(\d+)", words[1]):
        return words[0], -int(told[2]) or int(told[1])
    if not words[1].isdigit():
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
    """How many GPUs `gres/gpu:h100:8`, or up to Slurm 23.02 `gres:gpu:h100:8`, or `gpu:2` means; 0 for none."""
    return sum(int(words[-1]) if words[-1].isdigit() else 1 for words in _of_gpus(text))


def gpu_type(text: str) -> str:
    """`h100` of `gres/gpu:h100:8`; empty where any type would do."""
    return next((words[1] for words in _of_gpus(text) if len(words) > 1 and not words[1].isdigit()), "")


def _of_gpus(text: str) -> Iterator[list[str]]:
    for entry in text.split(","):
        words = _PREFIX.sub("", entry.partition("(")[0], count=1).replace("=", ":").split(":")
        if words[0] == "gpu":
            yield words


def _seconds(text: str) -> float | None:
    try:
        return float(calendar.timegm(time.strptime(text, "%Y-%m-%dT%H:%M:%S")))
    except ValueError:
        return None  # N/A


def _or_empty(text: str) -> str:
    return "" if text in ("(null)", "N/A") else text
