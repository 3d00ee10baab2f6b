"""scontrol -> which job has which GPU of which host."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from runner.slurm.hostlist import expand

if TYPE_CHECKING:
    from collections.abc import Mapping

    from runner.slurm.client import Slurm

_JOB = re.compile(r"^JobId=(\d+)\s")
_HOSTS = re.compile(r"\bNodes=(\S+) CPU_IDs=\S* Mem=\S* GRES=(\S*)")
_NUMBERS = re.compile(r"gpu[^(,]*\(IDX:([0-9,-]+)\)")


def allocated(slurm: Slurm) -> Mapping[tuple[str, int], str]:
    """The job's number by host and GPU, counted as Slurm does. Raises EngineError."""
    return read(slurm.run("scontrol", "show", "job", "--all", "--details", "--oneliner"))


def read(text: str) -> Mapping[tuple[str, int], str]:
    """As `allocated`, of what scontrol printed. Pure."""
    found: dict[tuple[str, int], str] = {}
    job = ""
    for line in text.split("\n"):
        # A name may hold a line break: what follows is still of that job.
        if begun := _JOB.match(line):
            job = begun[1]
        for hosts, gres in _HOSTS.findall(line):
            # A list of types, such as gpu:a:2(IDX:0-1),gpu:b:1(IDX:2).
            numbers = [int(each) for part in _NUMBERS.findall(gres) for each in expand(f"[{part}]")]
            found.update({(host, number): job for host in expand(hosts) for number in numbers})
    return found
