"""Settings, token and inventory -> the files below run_folder() that daemons, Slurm's commands and hooks go by."""

from __future__ import annotations

import os
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from runner import decoding
from runner.agent import elastic
from runner.agent import inventory as inventories
from runner.errors import EngineError, UsageError
from runner.slurm import conf, labels
from runner.slurm.client import run_folder

if TYPE_CHECKING:
    from collections.abc import Mapping

    from runner.agent.inventory import Inventory
    from runner.agent.settings import Settings
    from runner.agent.token import Token

# What Slurm starts clears its environment: these are told to our own hooks, and those that PUSHTRAIN_PASS names. What
# starts and stops machines takes a provider's credentials from the agent itself; see inherited.py.
_PASSED = ("PUSHTRAIN_", "DOCKER_", "PYTHON", "LD_LIBRARY_PATH", "LANG", "HOME", "PATH")
_SECRETS = ("TOKEN", "SECRET", "KEY", "PASSWORD", "AUTH")
_HOOKS = {
    "epilog": "-m runner.agent.epilog",
    "health": "-m runner.agent.health",
    "resume": "-m runner.cli agent power resume",
    "suspend": "-m runner.cli agent power suspend",
}
# As slurm.conf, but that nothing starts until the agent has opened the partitions; see opening.py.
SLURMCTLD_CONF = "slurmctld.conf"
# What is left to the system and to Docker; Slurm would take a host with less than it registered for broken.
_MEMORY_SHARE = 0.95


@dataclass(frozen=True, kw_only=True)
class About:
    """agent.json: what anybody on this host may know of its place in the fleet."""

    role: str
    works: bool
    name: str
    address: str
    cluster: str
    head: str
    head_address: str
    store: str | None
    registry: str | None
    metrics_port: int
    state: str
    pushtrain: str
    slurm: str
    host_conf: str
    serves_registry: bool


def about() -> About:
    """What the agent of this machine says. Raises EngineError where none was started since it booted."""
    try:
        return decoding.from_json((run_folder() / "agent.json").read_bytes(), About)
    except FileNotFoundError:
        raise EngineError("no agent was started on this machine", tip="pushtrain agent start") from None


def forget() -> None:
    """After leaving: nothing here says any more that this machine is of a fleet. Safe to repeat."""
    for name in ("agent.json", "slurm.conf", "gres.conf", SLURMCTLD_CONF, "gpus.json", *_HOOKS):
        (run_folder() / name).unlink(missing_ok=True)


def write(settings: Settings, token: Token, inventory: Inventory, *, state: Path) -> About:
    """Write all of it anew and return agent.json's content. Safe to repeat, also while daemons run.

    Raises UsageError where the folder cannot be written.
    """
    run = run_folder()
    try:
        _folders(run, settings, state)
        _texts(run, token, inventory if settings.gpus else None, _gres(settings, inventory, state))
    except OSError as error:
        raise UsageError(f"{error.filename} cannot be written: {error.strerror}", tip=_AS_ROOT) from None
    told = _about(settings, token, inventory, state)
    _replace(run / "agent.json", msgspec.json.encode(told).decode())
    return told


_AS_ROOT = "run it with sudo, or set PUSHTRAIN_RUN to a folder of your own (with --client)"


def _folders(run: Path, settings: Settings, state: Path) -> None:
    run.mkdir(parents=True, exist_ok=True)
    # Munge refuses a socket in a folder that others may write, or that not everybody may enter.
    run.chmod(0o755)
    Path(settings.home).mkdir(parents=True, exist_ok=True)
    for name, target in (("state", str(state)), ("python", sys.executable), ("home", settings.home)):
        part = run / f".{name}"
        part.unlink(missing_ok=True)
        part.symlink_to(target)
        part.rename(run / name)


def _gres(settings: Settings, inventory: Inventory, state: Path) -> str:
    """The lines of gres.conf; the head has those of hosts that come and go as well, so its own say whose they are."""
    own = inventory.gres_conf if settings.gpus else ""
    grows = elastic.kept(state) if settings.role == "head" else None
    if grows is None:
        return own
    named = "".join(f"NodeName={settings.name} {line}\n" for line in own.splitlines())
    return named + elastic.gres_lines(grows)


def _texts(run: Path, token: Token, with_gpus: Inventory | None, gres: str) -> None:
    for name, closed in (("slurm.conf", False), (SLURMCTLD_CONF, True)):
        text = conf.slurm_conf(
            token.cluster, run=run, epilog=run / "epilog", health=run / "health", closed=closed
        )
        _replace(run / name, text)
    _replace(run / "gres.conf", conf.gres_conf(gres))
    inventories.write_gpus(run / "gpus.json", gpus=with_gpus.gpus if with_gpus else ())
    for name, arguments in _HOOKS.items():
        # What PUSHTRAIN_PASS names may be a provider's key; slurmd and slurmctld are root.
        _replace(run / name, hook(arguments, environ=os.environ), mode=0o700)


def hook(arguments: str, *, environ: Mapping[str, str]) -> str:
    """A program for Slurm that runs Pushtrain with the agent's settings, whatever environment Slurm gives it."""
    further = environ.get("PUSHTRAIN_PASS", "").split()
    passed = {
        name: value
        for name, value in environ.items()
        if name in further or (name.startswith(_PASSED) and not any(word in name for word in _SECRETS))
    }
    told = "".join(f"export {name}={shlex.quote(value)}\n" for name, value in sorted(passed.items()))
    return f'#!/bin/sh\n{told}export PYTHONSAFEPATH=1\nexec {shlex.quote(sys.executable)} {arguments} "$@"\n'


def _replace(path: Path, text: str, *, mode: int = 0o644) -> None:
    part = path.with_name(f".{path.name}.part")
    part.unlink(missing_ok=True)
    # Nobody else's at any moment, whatever the umask of whoever starts the agent.
    with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "w") as file:
        file.write(text)
    part.chmod(mode)
    part.rename(path)


def _about(settings: Settings, token: Token, inventory: Inventory, state: Path) -> About:
    cluster = token.cluster
    return About(
        role=settings.role,
        works=settings.works,
        name=settings.name,
        address=settings.address,
        cluster=cluster.name,
        head=cluster.head,
        head_address=cluster.address,
        store=token.store,
        registry=token.registry,
        metrics_port=cluster.ports.metrics,
        state=str(state),
        pushtrain=inventory.pushtrain_version,
        slurm=inventory.slurm_version or "",
        host_conf=_host_conf(settings, inventory) if settings.works else "",
        serves_registry=settings.serves_registry,
    )


def _host_conf(settings: Settings, inventory: Inventory) -> str:
    kinds = {card.gres_type for card in inventory.gpus} if settings.gpus else set[str]()
    # One of several types on a host could not be told from the others by a feature of the host.
    gpus = [labels.of_gpu(kind) for kind in kinds] if len(kinds) == 1 else []
    return conf.host_conf(
        address=settings.address,
        cpus=settings.cpus or inventory.cpus,
        memory_bytes=settings.memory_bytes or int(inventory.memory_bytes * _MEMORY_SHARE),
        gres=inventory.gres if settings.gpus else "",
        features=[*(labels.feature(name, value) for name, value in settings.labels.items()), *gpus],
    )
