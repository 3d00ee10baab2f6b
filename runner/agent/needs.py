"""An inventory -> everything that this machine lacks to be a host of a fleet, at once, and how to get each."""

from __future__ import annotations

import email.utils
import http.client
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from runner.fleet.versions import Versions, differences, release
from runner.quantities import format_size

if TYPE_CHECKING:
    from runner.agent.inventory import Inventory
    from runner.agent.ports import Taken

Role = Literal["head", "member", "client"]

OLDEST_SLURM = (22, 5)
"""The first that takes nodes which nobody listed (`slurmd -Z`)."""
SPARE_BYTES, SPARE_SHARE = 5 * 2**30, 0.05
CLOCK_S = 3.0
"""slurmd takes a launch for too old that by its clock is five seconds old, and it is found to half a second."""
CLIENTS_CLOCK_S = 60.0
"""Munge refuses what is five minutes off."""
CLOCK_CURE = "sudo timedatectl set-ntp true; or: sudo apt-get install chrony"
_UNDER_WAY_S = 2.0
_BUILT_S = 1_760_000_000.0  # No clock is right that shows an earlier time than this was written.
_DRIVER = (
    "nvidia-smi says more; sudo modprobe nvidia, or reboot; after an upgrade of the kernel: sudo dkms autoinstall, "
    "with linux-headers of uname -r; to take part without GPUs: --head or --join with --no-gpus"
)
_TOOLKIT = "https://docs.nvidia.com/datacenter/cloud-native/container-toolkit/"
_OF_ROLE = {
    "head": ("munged", "slurmctld", "slurmd", "scontrol", "squeue", "sbatch", "srun", "ip"),
    "member": ("munged", "slurmd", "scontrol", "squeue", "sbatch", "srun", "ip"),
    "client": ("munged", "scontrol", "squeue", "sbatch", "srun"),
}
_SERVICES = ("slurmctld", "slurmd", "docker-registry")
_PACKAGE = {"munged": "munge", "slurmd": "slurmd", "slurmctld": "slurmctld", "ip": "iproute2"}


@dataclass(frozen=True, kw_only=True)
class Missing:
    """One thing: what is missing, why it is needed or how that was found, and the command (or place) that cures it."""

    what: str
    why: str
    cure: str

    def __str__(self) -> str:
        return f"{self.what}: {self.why}; {self.cure}"


def missing(
    inventory: Inventory,
    *,
    role: Role,
    head_slurm: str | None = None,
    head_pushtrain: str | None = None,
    clock_off_s: float | None = None,
    taken: tuple[Taken, ...] = (),
) -> tuple[Missing, ...]:
    """Return everything that is missing, () where the machine is ready. Pure but for a look at device files.

    `taken` are ports that other programs have.

    The versions of the head are those of the join token; `clock_off_s` is what `clock_off_s()` found. A host without
    GPUs is one as any other.
    """
    found = [
        *_programs(inventory, role),
        *_versions(inventory, head_slurm, head_pushtrain),
        *_clock(inventory, clock_off_s, most_s=CLIENTS_CLOCK_S if role == "client" else CLOCK_S),
        *_ports(taken),
    ]
    if role != "client":
        found += [*_rights(inventory), *_docker(inventory), *_gpus(inventory), *_disk(inventory)]
    return tuple(found)


def listed(missing: Iterable[Missing]) -> str:
    """Return them as one text, a line for each and its cure below it. Pure."""
    return "\n".join(f"- {each.what}: {each.why}\n    {each.cure}" for each in missing)


def clock_off_s(address: str, port: int, *, within_s: float = 5.0) -> float | None:
    """Return by how much this clock is ahead of another host's, by an HTTP server on it; None where it is not known.

    That says whole seconds: half of one is guessed, and may be wrong. An answer that was long under way says nothing.
    """
    asked_s = time.time()
    connection = http.client.HTTPConnection(address, port, timeout=within_s)
    try:
        connection.request("HEAD", "/")
        told, took_s = connection.getresponse().getheader("Date"), time.time() - asked_s
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()
    if told is None or took_s > _UNDER_WAY_S:
        return None
    try:
        return asked_s + took_s / 2 - email.utils.parsedate_to_datetime(told).timestamp() - 0.5
    except ValueError:
        return None


def _programs(inventory: Inventory, role: Role) -> Iterator[Missing]:
    absent = [name for name in _OF_ROLE[role] if name not in inventory.programs]
    if absent:
        packages = sorted({_PACKAGE.get(name, "slurm-client") for name in absent})
        yield Missing(
            what=", ".join(absent),
            why="not installed",
            cure=f"sudo apt-get install --no-install-recommends {' '.join(packages)}; or run the agent's image, "
            "which has them: docs/operations.md",
        )


def _versions(inventory: Inventory, head_slurm: str | None, head_pushtrain: str | None) -> Iterator[Missing]:
    daemon, master = inventory.programs.get("slurmd"), inventory.programs.get("slurmctld")
    if daemon and master and daemon != master:
        yield Missing(
            what="one version of Slurm",
            why=f"slurmd is {daemon}, slurmctld is {master}",
            cure="sudo apt-get install --only-upgrade slurmd slurmctld slurm-client",
        )
    own = inventory.slurm_version
    if own and release(own) < OLDEST_SLURM:
        yield Missing(
            what="Slurm 22.05 or newer",
            why=f"this is {own}, which knows no hosts that join by themselves",
            cure="upgrade the distribution, or run the agent's image: docs/operations.md",
        )
    here = Versions(pushtrain=inventory.pushtrain_version, slurm=own or "")
    for each in differences(here, Versions(pushtrain=head_pushtrain or "", slurm=head_slurm or "")):
        why = f"this host has {each.has}, the head has {each.wanted}"
        yield Missing(what=f"{each.program} {each.wanted}", why=why, cure=each.cure)


def _clock(inventory: Inventory, off_s: float | None, *, most_s: float) -> Iterator[Missing]:
    if inventory.time_s < _BUILT_S:
        yield Missing(what="the right time", why="this clock is years behind", cure=CLOCK_CURE)
    elif off_s is not None and abs(off_s) > most_s:
        side = "ahead of" if off_s > 0 else "behind"
        why = f"this clock is {abs(off_s):.0f} s {side} the head's, and what one signs the other takes for too old"
        yield Missing(what="the right time", why=why, cure=f"here, or on the head: {CLOCK_CURE}")


def _ports(taken: tuple[Taken, ...]) -> Iterator[Missing]:
    for each in taken:
        program = each.by.partition(" ")[0]
        ends = f"sudo systemctl disable --now {program}" if program in _SERVICES else "end that program"
        also = (
            "; a Slurm cluster that is there needs no agent: docs/operations.md" if "slurm" in program else ""
        )
        yield Missing(
            what=f"TCP port {each.port} for {each.daemon}",
            why=f"{each.by or 'another program'} listens on it",
            cure=f"{ends if program else f'sudo ss -ltnp sport = :{each.port} shows which; end it'}{also}",
        )


def _rights(inventory: Inventory) -> Iterator[Missing]:
    if not inventory.root:
        yield Missing(
            what="root",
            why="slurmd starts the runs of all users, and device files are its to give",
            cure="start it with sudo, or install it as a service: sudo pushtrain agent install",
        )


def _docker(inventory: Inventory) -> Iterator[Missing]:
    if inventory.docker_version is None:
        installed = (
            "Docker does not answer" in inventory.docker_trouble
            and "No such file" not in inventory.docker_trouble
        )
        yield Missing(
            what="Docker",
            why=inventory.docker_trouble,
            cure="sudo systemctl restart docker"
            if installed
            else "sudo apt-get install docker.io, or https://docs.docker.com/engine/install/; where it is installed: "
            "sudo systemctl start docker",
        )
    elif inventory.gpus and not inventory.docker_gpu_runtime:
        yield Missing(
            what="the NVIDIA container toolkit",
            why=f"there are {len(inventory.gpus)} GPUs, and Docker has no way to give them to containers",
            cure=f"{_TOOLKIT}; then: sudo nvidia-ctk runtime configure --runtime=docker; "
            "sudo systemctl restart docker",
        )


def _gpus(inventory: Inventory) -> Iterator[Missing]:
    if inventory.gpu_trouble:
        mismatch = "mismatch" in inventory.gpu_trouble.lower()
        cure = (
            "reboot: the driver's library was upgraded and its kernel module was not" if mismatch else _DRIVER
        )
        yield Missing(what="a working NVIDIA driver", why=inventory.gpu_trouble, cure=cure)
    for card in inventory.gpus:
        absent = [file for file in card.files if not Path(file).exists()]
        if absent or not card.files:
            yield Missing(
                what=", ".join(absent) or f"a device file of {card.uuid}",
                why=f"{card.model} {card.uuid} is used by it",
                cure=f"sudo nvidia-modprobe -c {card.index} -u; in a container: give it all GPUs",
            )


def _disk(inventory: Inventory) -> Iterator[Missing]:
    floor_bytes = spare_bytes(inventory.disk_total_bytes)
    if inventory.disk_free_bytes < floor_bytes:
        yield Missing(
            what=f"{format_size(floor_bytes)} of free disk",
            why=f"{inventory.home} has {format_size(inventory.disk_free_bytes)} left of "
            f"{format_size(inventory.disk_total_bytes)}",
            cure="pushtrain gc --yes; docker system prune; or another disk by PUSHTRAIN_HOME",
        )


def spare_bytes(total_bytes: int) -> int:
    """Return how much of a disk has to be free for a host to take work: 5 GiB, of a small disk a twentieth. Pure."""
    return min(SPARE_BYTES, int(total_bytes * SPARE_SHARE))
