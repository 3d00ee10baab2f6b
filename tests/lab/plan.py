"""What a lab is to be -> `lab.json` in its folder, by which each command finds it again."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from tests.lab.namespaces import LabError
from tests.services.slots import lock_of

Mode = Literal["plain", "none"]
MODEL = "Tesla V100-SXM2-16GB"
LOCKS = "lab-{}.lock"
_FILE = "lab.json"


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A lab: `hosts` are there from the start, `later` ones are booted by whoever wants them.

    `slurm` is "plain" where the lab runs munged, slurmctld (on the first host) and slurmd, "none" where an agent does.
    """

    folder: Path
    cache: Path
    slot: int
    hosts: tuple[str, ...]
    later: tuple[str, ...] = ()
    gpus: int = 2
    model: str = MODEL
    slurm: Mode = "plain"
    docker: bool = True
    disk_mib: int = 8192
    environ: Mapping[str, str] = field(default_factory=dict)

    @property
    def names(self) -> tuple[str, ...]:
        return (*self.hosts, *self.later)

    @property
    def head(self) -> str:
        return self.hosts[0]

    @property
    def label(self) -> str:
        """What tells this lab's bridge, rules and control groups from those of others."""
        return f"ptlab{self.slot}"

    @property
    def lock(self) -> Path:
        """Locked while the lab lives."""
        return lock_of(LOCKS, self.slot)

    def address(self, name: str) -> str:
        return f"{self.network}.{10 + self.names.index(name)}"

    @property
    def network(self) -> str:
        return f"10.77.{self.slot}"

    @property
    def outside(self) -> str:
        """This machine, as the hosts see it."""
        return f"{self.network}.1"

    @property
    def services(self) -> str:
        """Where the registry and the store answer; no host, so no host's death harms them."""
        return f"{self.network}.2"

    @property
    def key(self) -> Path:
        return self.folder / "munge.key"

    @property
    def share(self) -> Path:
        """A folder that all hosts and this machine see."""
        return self.folder / "share"

    def save(self) -> None:
        said = dataclasses.asdict(self) | {"folder": str(self.folder), "cache": str(self.cache)}
        (self.folder / _FILE).write_text(json.dumps(said, indent=1))

    @classmethod
    def load(cls, folder: Path) -> Plan:
        """Raises LabError where no lab was made."""
        try:
            said = json.loads((folder / _FILE).read_text())
        except FileNotFoundError:
            raise LabError(f"no lab in {folder}: python -m tests.lab up --folder {folder}") from None
        tuples = {name: tuple(said[name]) for name in ("hosts", "later")}
        return cls(**{**said, **tuples, "folder": Path(said["folder"]), "cache": Path(said["cache"])})
