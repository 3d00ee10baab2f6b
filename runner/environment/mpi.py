"""What `mpirun --version` says -> an Open MPI that can be driven, or what to install instead."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from runner.errors import EnvironmentFailed

# Its launcher is told by options of orted; PRRTE, which came with 5, and Hydra have others.
MAJOR = 4
PACKAGE = "openmpi-bin"
# Debian 13, on which python:X-slim stands, has Open MPI 5.
DEBIAN = "bookworm"

_KINDS = (
    (re.compile(r"\(Open MPI\) (?P<version>\d[\w.]*)"), "Open MPI"),
    (re.compile(r"\(PRRTE\) (?P<version>\d[\w.]*)"), "PRRTE"),
    (re.compile(r"Intel\(R\) MPI Library.*?Version (?P<version>\d[\w.]*)"), "Intel MPI"),
    (re.compile(r"HYDRA build details:\s*Version:\s*(?P<version>\d[\w.]*)"), "MPICH's Hydra"),
)


@dataclass(frozen=True, kw_only=True)
class Mpi:
    """An MPI by its launcher: `name` such as `Open MPI`, `version` such as `4.1.4`; empty where it says none."""

    name: str
    version: str

    @property
    def is_supported(self) -> bool:
        """Whether ranks can be started by it."""
        return self.name == "Open MPI" and self.version.split(".")[0] == str(MAJOR)

    def __str__(self) -> str:
        return f"{self.name} {self.version}".strip()


def read(said: str) -> Mpi | None:
    """The MPI whose `mpirun --version` said so; None where there was no mpirun, and so nothing was said."""
    for pattern, name in _KINDS:
        if match := pattern.search(said):
            return Mpi(name=name, version=match["version"])
    first = said.strip().splitlines()[:1]
    return Mpi(name=f"an mpirun that says {first[0][:80]!r}", version="") if first else None


def require_machine(venv: Path | None = None, *, needed_by: str = "distribution mpi") -> Mpi:
    """The MPI of this machine, that of `venv` before any other on PATH.

    Asks its mpirun, some 20 ms. Raises EnvironmentFailed where there is none, or none that can be driven.
    """
    own = venv / "bin" / "mpirun" if venv is not None else None
    path = str(own) if own is not None and own.exists() else shutil.which("mpirun")
    found = read(_output([path, "--version"])) if path else None
    absent = f"sudo apt-get install -y {PACKAGE}"
    other = f"put an Open MPI {MAJOR} before {path} on PATH: {absent} on Debian 12"
    return _require(found, where="on this machine", needed_by=needed_by, absent=absent, other=other)


def require_image(said: str, *, image: str, generated: bool) -> Mpi:
    """The MPI of an image whose mpirun `said` so. Raises EnvironmentFailed as `require_machine`."""
    other = f"take an image with Open MPI {MAJOR}, such as {PACKAGE} of Debian 12 or Ubuntu 24.04"
    if generated:
        other = f"take a base with Open MPI {MAJOR} in its Debian packages, such as python:3.11-slim-{DEBIAN}"
    absent = f"RUN apt-get update && apt-get install -y --no-install-recommends {PACKAGE}"
    return _require(
        read(said),
        where=f"in the image {image}",
        needed_by="distribution mpi",
        absent=f"add to it: {absent}",
        other=other,
    )


def _require(found: Mpi | None, *, where: str, needed_by: str, absent: str, other: str) -> Mpi:
    """`found`. Raises EnvironmentFailed with the tip `absent` where it is None, `other` where it is not supported."""
    if found is None:
        raise EnvironmentFailed(
            f"{needed_by} needs Open MPI {MAJOR}, and there is no mpirun {where}", tip=absent
        )
    if not found.is_supported:
        raise EnvironmentFailed(
            f"{needed_by} works with Open MPI {MAJOR} alone, and {where} there is {found}", tip=other
        )
    return found


def _output(argv: list[str]) -> str:
    try:
        done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout or done.stderr
