"""This machine -> what it has to offer to a fleet, and what of the programs for that it has."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from runner import gpus, homes
from runner.agent import cards, docker_socket
from runner.agent.cards import Card
from runner.errors import EngineError
from runner.slurm.client import run_folder

PROGRAMS = ("munged", "slurmd", "slurmctld", "scontrol", "sbatch", "srun", "squeue", "ip")
_VERSIONED = {"munged": "--version", "slurmd": "-V", "slurmctld": "-V", "srun": "-V"}
# Debian and Red Hat keep daemons where a user's PATH does not look.
_DAEMONS = "/usr/sbin:/usr/local/sbin:/sbin"
# By either, Docker gives containers GPUs: it looks for the hook when it starts.
_GPU_RUNTIME, _GPU_HOOK = "nvidia", "nvidia-container-runtime-hook"


@dataclass(frozen=True, kw_only=True)
class Inventory:
    """What `look` found. `gpus` stand in the order in which Slurm counts them (SLURM_JOB_GPUS).

    `gpu_trouble` and `docker_trouble` say why the driver or Docker does not answer, empty where it does; GPUs that are
    plugged in, and for which no driver is loaded, are trouble too. `programs` are
    those of PROGRAMS that are here, with their version where they tell one. `disk` is that of `home`.
    """

    hostname: str
    cpus: int
    memory_bytes: int
    gpus: tuple[Card, ...]
    gpu_trouble: str
    docker_version: str | None
    docker_trouble: str
    docker_gpu_runtime: bool
    home: str
    disk_free_bytes: int
    disk_total_bytes: int
    kernel: str
    boot_id: str
    root: bool
    time_s: float
    pushtrain_version: str
    slurm_version: str | None
    programs: dict[str, str] = field(default_factory=dict)

    @property
    def gres(self) -> str:
        """The GPUs as `Gres=` of a node names them: `gpu:nvidia_h100_80gb_hbm3:8`; empty where there are none."""
        return ",".join(
            f"gpu:{kind}:{count}" for kind, count in Counter(c.gres_type for c in self.gpus).items()
        )

    @property
    def gres_conf(self) -> str:
        """The lines of gres.conf, one for each GPU, in their order."""
        return "".join(_gres_line(card) for card in self.gpus)


def look(home: Path | None = None) -> Inventory:
    """Return what this machine has now; `home` is by default that of the agent. Takes about a second.

    Raises EngineError as `own_version` alone.
    """
    place = home or default_home()
    found, gpu_trouble = _gpus()
    version, runtime, docker_trouble = _docker()
    disk = shutil.disk_usage(_there(place))
    programs = _programs()
    return Inventory(
        hostname=socket.gethostname(),
        cpus=len(os.sched_getaffinity(0)),
        memory_bytes=os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"),
        gpus=found,
        gpu_trouble=gpu_trouble,
        docker_version=version,
        docker_trouble=docker_trouble,
        docker_gpu_runtime=runtime,
        home=str(place),
        disk_free_bytes=disk.free,
        disk_total_bytes=disk.total,
        kernel=os.uname().release,
        boot_id=Path("/proc/sys/kernel/random/boot_id").read_text().strip(),
        root=os.geteuid() == 0,
        time_s=time.time(),
        pushtrain_version=own_version(),
        slurm_version=programs.get("slurmd") or programs.get("slurmctld") or programs.get("srun") or None,
        programs=programs,
    )


def write_gpus(path: Path | None = None, *, gpus: tuple[Card, ...]) -> None:
    """Write the GPUs in Slurm's order, for those that are told SLURM_JOB_GPUS; by default run_folder()/gpus.json."""
    place = path or run_folder() / "gpus.json"
    rows = [
        {"uuid": card.uuid, "model": card.model, "memory_bytes": card.memory_bytes, "index": card.index}
        for card in gpus
    ]
    part = place.with_name(f".{place.name}.part")
    part.write_text(json.dumps(rows))
    part.rename(place)


def read_gpus(path: Path | None = None) -> tuple[str, ...]:
    """Return the UUIDs in Slurm's order; () where no agent wrote them."""
    place = path or run_folder() / "gpus.json"
    return tuple(str(row["uuid"]) for row in json.loads(place.read_text())) if place.exists() else ()


def program(name: str) -> str | None:
    """Return where a program is, daemons included."""
    return shutil.which(name, path=f"{os.environ.get('PATH', os.defpath)}:{_DAEMONS}")


def default_home() -> Path:
    """Return this host's folder of runs and caches: the agent's, PUSHTRAIN_HOME, or the user's own."""
    ours = run_folder() / "home"
    return ours.resolve() if ours.exists() else homes.home()


def _gres_line(card: Card) -> str:
    # Several files of one GPU: a MIG instance, which is used by its GPU's file and two of its own.
    name = "MultipleFiles" if len(card.files) > 1 else "File"
    return f"Name=gpu Type={card.gres_type} {name}={','.join(card.files)}\n"


def _gpus() -> tuple[tuple[Card, ...], str]:
    try:
        found = cards.find()
        with gpus.driver() as nvml:
            return found, not_driven(gpus.on_bus()) if nvml is None else ""
    except EngineError as error:
        return (), str(error)


def not_driven(count: int) -> str:
    """Say what is wrong where so many cards are plugged in and NVML knows of none; empty for 0. Pure."""
    cards_are = f"{count} NVIDIA card{'s are' if count != 1 else ' is'}"
    return f"{cards_are} plugged in, and no driver is loaded" if count else ""


def _docker() -> tuple[str | None, bool, str]:
    try:
        version = docker_socket.get("/version")["Version"]
        runtimes = docker_socket.get("/info").get("Runtimes") or {}
    except EngineError as error:
        return None, False, str(error)
    return version, _GPU_RUNTIME in runtimes or program(_GPU_HOOK) is not None, ""


def _programs() -> dict[str, str]:
    return {name: _version(name) for name in PROGRAMS if program(name)}


def _version(name: str) -> str:
    if name not in _VERSIONED:
        return ""
    with tempfile.NamedTemporaryFile("w", suffix=".conf") as conf:
        # Before srun tells its version it wants a slurm.conf: it would ask DNS for one, in vain and for seconds.
        conf.write("ClusterName=any\nSlurmctldHost=localhost\n")
        conf.flush()
        done = subprocess.run(
            [program(name) or name, _VERSIONED[name]],
            env={**os.environ, "SLURM_CONF": conf.name},
            capture_output=True,
            text=True,
            check=False,
            timeout=30,
        )
    number = re.search(r"\d+(?:\.\d+)+", done.stdout)
    return number.group() if number else ""


def own_version() -> str:
    """Return Pushtrain's version as it is installed now, which may be newer than the code that runs.

    Raises EngineError where none is, as for moments while pip replaces it.
    """
    from importlib.metadata import PackageNotFoundError, version

    try:
        found: str | None = version("pushtrain")  # None of one that is half written.
    except PackageNotFoundError:
        found = None
    if not found:
        raise EngineError(
            "no Pushtrain is installed at this moment", tip="in the clone of Pushtrain: scripts/venv"
        )
    return found


def _there(place: Path) -> Path:
    return next(each for each in (place, *place.absolute().parents) if each.exists())


def main(argv: Sequence[str]) -> int:
    """`inventory [HOME]`: the inventory as JSON."""
    found = look(Path(argv[0]) if argv else None)
    sys.stdout.write(
        json.dumps({**asdict(found), "gres": found.gres, "gres_conf": found.gres_conf}, indent=2) + "\n"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
