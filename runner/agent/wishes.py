"""What `agent start` was told -> the same, when this machine can be that; nothing is written or started before."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from runner.errors import StoreError, UsageError
from runner.quantities import format_size
from runner.store import open_store

if TYPE_CHECKING:
    from runner.agent.inventory import Inventory

_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?", re.ASCII)
# Slurm takes them for "every host" and for "as all that follow".
_NO_NAMES = ("all", "default")
# Slurm cuts what is longer.
_CLUSTER = re.compile(r"[A-Za-z0-9_-]{1,40}", re.ASCII)
_REGISTRY = re.compile(
    r"[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?(?::(?P<port>[0-9]{1,5}))?"
    r"(?:/[a-z0-9]+(?:(?:\.|__?|-+)[a-z0-9]+)*)*",
    re.ASCII,
)
_LAST_PORT = 65535
# Slurm counts memory in these; 0 would mean all.
_LEAST_MEMORY_BYTES = 2**20


@dataclass(frozen=True, kw_only=True)
class Wish:
    """The command line of a start. `address` and `name` are found where they are None."""

    address: str | None = None
    name: str | None = None
    labels: dict[str, str] = field(default_factory=dict)
    gpus: bool = True
    works: bool = True
    cpus: int | None = None
    memory_bytes: int | None = None
    cache_quota: str = "50%"
    home: str


@dataclass(frozen=True, kw_only=True)
class HeadWish(Wish):
    """The command line of the first start of a fleet."""

    cluster: str = "pushtrain"
    store: str | None = None
    registry: str | None = None
    serves_registry: bool = False
    elastic: Path | None = None


def check(wish: Wish) -> None:
    """Raise UsageError where a name is none that Slurm, other hosts or Docker could use. Pure."""
    if wish.name is not None:
        _check_name(wish.name)
    if isinstance(wish, HeadWish):
        _check_cluster(wish.cluster)
        if wish.registry is not None:
            _check_registry(wish.registry)


def check_offer(*, cpus: int | None, memory_bytes: int | None, there: Inventory) -> None:
    """Raise UsageError where a host would give more than it has, or nothing. None stands for all. Pure."""
    if cpus is not None and not 1 <= cpus <= there.cpus:
        raise UsageError(
            f"--cpus {cpus}: expected 1 to {there.cpus}, which is what this machine has",
            tip=f"pushtrain agent start … --cpus {there.cpus}, or without it for all",
        )
    if memory_bytes is not None and not _LEAST_MEMORY_BYTES <= memory_bytes <= there.memory_bytes:
        whole_bytes = there.memory_bytes // 2**20 * 2**20
        raise UsageError(
            f"--memory {format_size(memory_bytes)}: expected 1 MiB to {format_size(whole_bytes)}, which is what "
            "this machine has",
            tip="pushtrain agent start … without --memory gives 95 % of it",
        )


def check_store(uri: str, *, home: Path) -> None:
    """Open a store once, as all hosts will. Raises UsageError for a folder that cannot be one, StoreError.

    What is below `home` may be missing with all that is above it: the agent makes its home.
    """
    store = open_store(uri)
    folder = _folder(uri)
    if folder is not None and not (folder.is_relative_to(home) and not folder.exists()):
        _check_folder(uri, folder)
    try:
        next(iter(store.children("runs")), None)
    except StoreError as error:
        raise type(error)(
            f"the store {uri} cannot be opened: {error}",
            tip=error.tip or "see that this machine's root reaches it, or name another: --store",
        ) from error


def check_state(cluster: str, state: Path) -> None:
    """Raise UsageError where slurmctld kept the state of a fleet of another name there: it would not start."""
    try:
        kept = (state / "slurmctld" / "clustername").read_text().strip()
    except OSError:
        return
    if kept and kept.lower() != cluster.lower():
        raise UsageError(
            f"--cluster {cluster}: {state} holds the queue of the fleet {kept}",
            tip=f"pushtrain agent start --head … --cluster {kept}, or another folder: --state FOLDER",
        )


def _check_name(name: str) -> None:
    if _NAME.fullmatch(name) is None or name.lower() in _NO_NAMES:
        plain = re.sub(r"[^A-Za-z0-9]+", "-", name.partition(".")[0]).strip("-")[:63].strip("-").lower()
        raise UsageError(
            f"--name {name!r}: expected a host name: letters, digits and -, at most 63, no - at an end",
            tip=f"pushtrain agent start … --name {plain if plain and plain not in _NO_NAMES else 'gpu1'}",
        )


def _check_cluster(name: str) -> None:
    if _CLUSTER.fullmatch(name) is None:
        raise UsageError(
            f"--cluster {name!r}: expected letters, digits, _ and -, 1 to 40 of them",
            tip="pushtrain agent start --head --cluster lab, or without it: pushtrain",
        )


def _check_registry(text: str) -> None:
    found = _REGISTRY.fullmatch(text)
    if found is None or not 1 <= int(found["port"] or 1) <= _LAST_PORT:
        raise UsageError(
            f"--registry {text!r}: expected HOST[:PORT][/PATH], the path in small letters, and no http:// before it",
            tip="pushtrain agent start --head … --registry registry.example:5000/team; or --serve-registry",
        )


def _folder(uri: str) -> Path | None:
    """The folder of a store, None for a bucket."""
    if "://" not in uri:
        return Path(uri)
    parts = urlsplit(uri)
    return Path(unquote(parts.path)) if parts.scheme == "file" else None


def _check_folder(uri: str, folder: Path) -> None:
    if not folder.is_absolute():
        raise UsageError(
            f"--store {uri}: expected a path from / on, the same on every host, or s3://bucket/prefix",
            tip=f"pushtrain agent start --head --store {folder.absolute()}",
        )
    there = folder if folder.exists() else folder.parent
    if not there.is_dir():
        raise UsageError(
            f"--store {uri}: " + (f"{there} is no folder" if there.exists() else f"there is no {there}"),
            tip=f"mount it, or mkdir -p {folder}, on every host; or --store s3://bucket/prefix",
        )
    if not os.access(there, os.W_OK | os.X_OK):
        raise UsageError(
            f"--store {uri}: {there} cannot be written by this user",
            tip="run it with sudo, or name a folder that root of every host may write",
        )
