"""What a host is -> the daemons that have to run on it, in the order of their start."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from runner.agent.inventory import program
from runner.agent.layout import SLURMCTLD_CONF
from runner.errors import EngineError

if TYPE_CHECKING:
    from runner.agent.layout import About


@dataclass(frozen=True, kw_only=True)
class Daemon:
    """A program that stays in the foreground. `ready` is the file that is there once others may use it.

    `logs` says whether it writes a log itself; what it prints is then only for the case that it does not start. With
    another `conf` than it was started with, one that runs is of no use.
    """

    name: str
    argv: tuple[str, ...]
    ready: Path | None = None
    logs: bool = False
    conf: Path | None = None

    def log(self, folder: Path) -> Path:
        """Where to look when it fails."""
        return folder / (f"{self.name}.log")

    def printed(self, folder: Path) -> Path:
        """Where what it prints goes."""
        return folder / (f"{self.name}.out" if self.logs else f"{self.name}.log")


def wanted(about: About, *, run: Path) -> tuple[Daemon, ...]:
    """The daemons of a host of this role. Raises EngineError where the program of one is missing."""
    chosen = [_munged(run, Path(about.state))]
    if about.role == "head":
        chosen.append(_slurmctld(run))
    if about.serves_registry:
        chosen.append(_registry(Path(about.state)))
    if about.works:
        chosen.append(_slurmd(run, about))
    if about.role == "head" and (Path(about.state) / GITHUB_TOKEN_FILE).exists():
        chosen.append(_publisher(run, Path(about.state)))
    return tuple(chosen)


# Where it is there when the head's agent starts, the fleet says and publishes by itself what is due of its runs.
GITHUB_TOKEN_FILE = Path("github-token")


def _publisher(run: Path, state: Path) -> Daemon:
    words = ("watch", "--publish-only", "--token-file", f"{state}/{GITHUB_TOKEN_FILE}")
    return Daemon(
        name="publisher",
        argv=("env", f"PUSHTRAIN_HOME={run}/home", sys.executable, "-m", "runner.cli", *words),
    )


def _munged(run: Path, state: Path) -> Daemon:
    argv = (
        _program("munged"),
        "--foreground",
        f"--key-file={state}/munge.key",
        f"--socket={run}/munge.socket",
        f"--pid-file={run}/munged.pid",
        f"--seed-file={run}/munged.seed",
    )
    return Daemon(name="munged", argv=argv, ready=run / "munge.socket")


def _slurmctld(run: Path) -> Daemon:
    argv = (_program("slurmctld"), "-D", "-f", f"{run}/{SLURMCTLD_CONF}")
    return Daemon(name="slurmctld", argv=argv, ready=run / "slurmctld.pid", logs=True)


def _slurmd(run: Path, about: About) -> Daemon:
    host = ("-Z", "--conf", about.host_conf, "-N", about.name)
    argv = (_program("slurmd"), "-D", "-f", f"{run}/slurm.conf", *host)
    told = ("sh", "-c", _AWAITED, str(run / AWAITED)) if about.role != "head" else ()
    return Daemon(name="slurmd", argv=(*told, *argv), logs=True)


# There while the head waits for a machine that it had started: it takes one only that says it booted since (-b), and
# a container, or what boots within a second, did so earlier by its clock. Once alone: later it would end the jobs here.
AWAITED = "awaited"
_AWAITED = 'if rm "$0" 2>/dev/null; then exec "$@" -b; fi; exec "$@"'


def _registry(state: Path) -> Daemon:
    argv = (_program("docker-registry"), "serve", f"{state}/registry.yml")
    return Daemon(name="docker-registry", argv=argv, conf=state / "registry.yml")


def _program(name: str) -> str:
    if (found := program(name)) is None:
        raise EngineError(f"there is no {name}", tip=f"apt install {_PACKAGES.get(name, name)}")
    return found


_PACKAGES = {"munged": "munge", "slurmctld": "slurmctld", "slurmd": "slurmd"}


def registry_conf(*, folder: Path, address: str, port: int, htpasswd: Path) -> str:
    """The configuration of the registry that the head serves: on the fleet's address, for who has its password."""
    return f"""\
# Written by `pushtrain agent start --head --serve-registry`.
version: 0.1
log: {{level: warn, accesslog: {{disabled: true}}}}
storage:
  filesystem: {{rootdirectory: {folder}}}
  delete: {{enabled: true}}
auth:
  htpasswd: {{realm: pushtrain, path: {htpasswd}}}
http: {{addr: "{address}:{port}"}}
"""
