"""scontrol -> the hosts of the cluster, with what they have and what of it is free."""

from __future__ import annotations

import re
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING

from runner.errors import EngineError
from runner.slurm.client import PATIENCE_S, legible
from runner.slurm.queue import gpus

if TYPE_CHECKING:
    from runner.slurm.client import Slurm

_FIELD = re.compile(r"(?:^|\s)([A-Za-z/]+)=")
# States in which a host takes no job, whatever else is said of it; the longer names are those of `scontrol show node`.
_UNFIT = frozenset(
    {"DOWN", "DRAIN", "FAIL", "FAILING", "MAINT", "MAINTENANCE", "FUTURE", "UNKNOWN", "INVAL", "INVALID_REG"}
)
_OFF = frozenset({"POWERED_DOWN", "POWERING_DOWN", "POWERING_UP", "REBOOT_ISSUED"})
_AWAY = _UNFIT | _OFF | {"NOT_RESPONDING"}


@dataclass(frozen=True, kw_only=True)
class Node:
    """A host. `states` are Slurm's flags, such as {"IDLE", "DRAIN"}; `reason` says why it takes no job.

    `gpus` is by type, such as {"nvidia_h100_80gb_hbm3": 8}. `comment` is what its agent says of itself.
    """

    name: str
    address: str
    states: frozenset[str]
    reason: str
    cpus: int
    memory_bytes: int
    gpus: dict[str, int]
    gpus_used: int
    cpus_used: int
    features: tuple[str, ...]
    version: str
    comment: str

    @property
    def takes_jobs(self) -> bool:
        """Whether it would be given a job, now or when others have ended."""
        return not self.states & _AWAY

    @property
    def may_take_jobs(self) -> bool:
        """As `takes_jobs`, or it is off and would be started for one."""
        return self.takes_jobs or (bool(self.states & _OFF) and not self.states & _UNFIT)

    def is_here(self) -> bool:
        """Whether it is this machine, by its address: what a host is called is its agent's to choose."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            try:
                probe.bind((self.address or self.name, 0))
            except OSError:
                return False
        return True

    @property
    def gpu_count(self) -> int:
        """GPUs of all types together."""
        return sum(self.gpus.values())


def nodes(slurm: Slurm) -> tuple[Node, ...]:
    """All hosts by name. Raises EngineError."""
    text = slurm.run("scontrol", "show", "node", "--all", "--detail", "--oneliner")
    return read(text)


def read(text: str) -> tuple[Node, ...]:
    """The hosts that scontrol printed, by name. Pure."""
    lines = [line for line in legible(text).split("\n") if line.startswith("NodeName=")]
    return tuple(sorted((_node(line) for line in lines), key=lambda node: node.name))


def node(slurm: Slurm, name: str, *, patience_s: float = PATIENCE_S) -> Node | None:
    """One host; None where the cluster knows none of that name. Raises EngineError."""
    try:
        text = slurm.run("scontrol", "show", "node", name, "--detail", "--oneliner", patience_s=patience_s)
    except EngineError as error:
        if f"Node {name} not found" in str(error):
            return None
        raise
    return next((_node(line) for line in text.splitlines() if line.startswith("NodeName=")), None)


def _node(line: str) -> Node:
    fields = _fields(line)
    return Node(
        name=fields["NodeName"],
        address=fields.get("NodeAddr", ""),
        states=frozenset(flag.rstrip("*~#!%$@^-") for flag in fields.get("State", "UNKNOWN").split("+"))
        | ({"NOT_RESPONDING"} if "*" in fields.get("State", "") else set()),
        reason=fields.get("Reason", ""),
        cpus=int(fields.get("CPUTot", 0)),
        memory_bytes=int(fields.get("RealMemory", 0)) * 2**20,
        gpus=_by_type(fields.get("Gres", "")),
        gpus_used=gpus(fields.get("GresUsed", "")),
        cpus_used=int(fields.get("CPUAlloc", 0)),
        features=tuple(each for each in _or_empty(fields.get("AvailableFeatures", "")).split(",") if each),
        version=fields.get("Version", ""),
        comment=_or_empty(fields.get("Comment", "")),
    )


def _fields(line: str) -> dict[str, str]:
    """`A=1 B=two words C=3` -> by name; a value goes on until the next name."""
    found = [(match.group(1), match.start(), match.end()) for match in _FIELD.finditer(line)]
    ends = [start for _, start, _ in found[1:]] + [len(line)]
    return {name: line[begin:end].strip() for (name, _, begin), end in zip(found, ends, strict=True)}


def _by_type(text: str) -> dict[str, int]:
    found: dict[str, int] = {}
    for entry in re.sub(r"\([^)]*\)", "", text).split(","):
        words = entry.split(":")
        if words[0] == "gpu" and len(words) > 1 and words[-1].isdigit():
            kind = words[1] if len(words) > 2 else ""
            found[kind] = found.get(kind, 0) + int(words[-1])
    return found


def _or_empty(text: str) -> str:
    return "" if text in ("(null)", "N/A") else text
