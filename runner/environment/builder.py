"""The `docker` commands on PATH -> one that builds with BuildKit."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from runner.errors import EngineError

# From this release on a client without the buildx plugin builds only in the old way.
_NEEDS_PLUGIN = 23
_OLDEST = (20, 10)
_VERSION = re.compile(r"version (\d+)\.(\d+)")


@dataclass(frozen=True, kw_only=True)
class Builder:
    """A command that builds: `command` comes before the options of `docker build`, `env` is set for it."""

    command: tuple[str, ...]
    env: tuple[tuple[str, str], ...] = ()


def find_builder(environ: Mapping[str, str]) -> Builder:
    """The buildx plugin of any client on PATH; else a client older than 23, which reaches the daemon's own
    BuildKit.

    Raises EngineError with what to install where neither is there.
    """
    clients = list(_clients(environ.get("PATH", "")))
    for client in clients:
        if _says([client, "buildx", "version"]):
            return Builder(command=(client, "buildx", "build", "--load"))
    for client in clients:
        if _OLDEST <= _version(client) < (_NEEDS_PLUGIN, 0):
            return Builder(command=(client, "build"), env=(("DOCKER_BUILDKIT", "1"),))
    found = f"{clients[0]} has no buildx plugin" if clients else "there is no docker command on PATH"
    raise EngineError(
        f"Docker cannot build images here: {found}",
        tip="sudo apt-get install docker.io on Debian 12, docker-buildx on Debian 13 or Ubuntu, "
        "docker-buildx-plugin with Docker's own packages",
    )


def _clients(path: str) -> Iterator[str]:
    seen = set()
    for folder in filter(None, path.split(os.pathsep)):
        client = Path(folder) / "docker"
        if not os.access(client, os.X_OK) or client.is_dir():
            continue
        if client.resolve() not in seen:
            seen.add(client.resolve())
            yield str(client)


def _version(client: str) -> tuple[int, int]:
    match = _VERSION.search(_says([client, "--version"]))
    return (int(match[1]), int(match[2])) if match else (0, 0)


def _says(argv: list[str]) -> str:
    try:
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
    except OSError:  # no program of this machine
        return ""
    return done.stdout if done.returncode == 0 else ""
