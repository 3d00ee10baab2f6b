"""scontrol, or a job's environment -> which job has which GPU of which host, by Slurm's numbers."""

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
            found.update({(host, number): job for host in expand(hosts) for number in of_gres(gres)})
    return found


def of_gres(gres: str) -> tuple[int, ...]:
    """Slurm's numbers of the GPUs in `gpu:h100:3(IDX:0-1,3),gpu:v100:1(IDX:5)`. Pure."""
    return tuple(number for part in _NUMBERS.findall(gres) for number in _each(part))


def given(environ: Mapping[str, str]) -> tuple[int, ...]:
    """The same of the step or job whose environment this is. Pure."""
    return _each(environ.get("SLURM_STEP_GPUS") or environ.get("SLURM_JOB_GPUS") or "")


def _each(ranges: str) -> tuple[int, ...]:
    return tuple(int(number) for number in expand(f"[{ranges}]") if number.isdigit()) if ranges else ()
