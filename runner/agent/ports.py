"""The daemons of a host that is to begin -> those whose TCP port another program has, and which program that is."""

from __future__ import annotations

import errno
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from runner.agent import processes
from runner.slurm.client import run_folder
from runner.slurm.conf import Ports

if TYPE_CHECKING:
    from collections.abc import Iterator

_LISTENS = "0A"
_EVERYWHERE = ""


@dataclass(frozen=True, kw_only=True)
class Taken:
    """A port that a daemon wants; `by` is the program that listens there, `slurmd (process 7)`, empty if unknown."""

    port: int
    daemon: str
    by: str = ""


def wanted(
    ports: Ports, *, role: str, works: bool, serves_registry: bool, address: str
) -> dict[str, tuple[str, int]]:
    """Where each daemon of a host will listen, by its name. Pure."""
    found: dict[str, tuple[str, int]] = {}
    if role == "head":
        found["slurmctld"] = (_EVERYWHERE, ports.slurmctld)
    if works:
        found["slurmd"] = (_EVERYWHERE, ports.slurmd)
    if serves_registry:
        found["docker-registry"] = (address, ports.registry)
    if role != "client":
        found["agent"] = (address, ports.metrics)
    return found


def taken(places: dict[str, tuple[str, int]]) -> tuple[Taken, ...]:
    """Which of these cannot be listened on; what an earlier agent's own daemons have is not taken."""
    noted = processes.load(run_folder() / "daemons.json")
    own = {name for name, note in noted.items() if note.process and note.process.alive}
    return tuple(
        Taken(port=port, daemon=name, by=_holder(port))
        for name, (address, port) in places.items()
        if name not in own and not _is_free(address, port)
    )


def _is_free(address: str, port: int) -> bool:
    try:
        socket.create_server((address, port)).close()
    except OSError as error:
        # Whatever else is wrong, such as an address that is not up yet, the daemon itself says.
        return error.errno != errno.EADDRINUSE
    return True


def _holder(port: int) -> str:
    sockets = {f"socket:[{inode}]" for inode in _inodes(port)}
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if any(str(each.readlink()) in sockets for each in (process / "fd").iterdir()):
                return f"{(process / 'comm').read_text().strip()} (process {process.name})"
        except OSError:  # It ended, or is not ours to look at.
            continue
    return ""


def _inodes(port: int) -> Iterator[str]:
    for table in ("tcp", "tcp6"):
        try:
            rows = Path(f"/proc/net/{table}").read_text().splitlines()[1:]
        except FileNotFoundError:
            continue
        for words in map(str.split, rows):
            if words[3] == _LISTENS and int(words[1].rpartition(":")[2], 16) == port:
                yield words[9]
