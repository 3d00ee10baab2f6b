"""A Docker daemon for tests, apart from any other on the machine: its own socket, data, bridge and addresses.

Up to ten test sessions at once have one each; the next session that gets the same slot finds its base image
and fetched packages again.
"""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from tests.services.process import running
from tests.services.slots import free_slot

BASE_REPOSITORY = "pushtrain-test/base"
_KEPT_CACHE = "8GB"


@dataclass(frozen=True, kw_only=True)
class DockerEngine:
    """A daemon that runs; `host` is what DOCKER_HOST is set to."""

    host: str
    socket: Path
    folder: Path

    def docker(self, *arguments: str, stdin: IO[bytes] | None = None) -> str:
        """The output of `docker ARGUMENTS…` on this daemon."""
        done = subprocess.run(
            ["docker", *arguments],
            env={**os.environ, "DOCKER_HOST": self.host},
            stdin=stdin or subprocess.DEVNULL,
            capture_output=True,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"docker {' '.join(arguments)}: {done.stderr.decode(errors='replace')}")
        return done.stdout.decode().strip()


@contextmanager
def docker_daemon(cache: Path) -> Iterator[DockerEngine]:
    """Runs a daemon on a free slot of `cache`, empty of containers, networks and images but the bases."""
    with ExitStack() as stack:
        slot, lock = free_slot("{}.lock")
        stack.enter_context(lock)
        folder = cache / f"docker-{slot}"
        folder.mkdir(parents=True, exist_ok=True)
        bridge = stack.enter_context(_bridge(slot))
        engine = DockerEngine(host=f"unix://{folder}/s", socket=folder / "s", folder=folder)
        argv = _argv(engine, slot, bridge)
        ready = lambda: answers(engine.socket)  # noqa: E731
        stack.enter_context(
            # The daemon holds the lock too: a slot is not free before that of a killed session has ended.
            running(argv, log=folder / "dockerd.log", ready=ready, pass_fds=(lock.fileno(),))
        )
        empty(engine)
        yield engine
        empty(engine)


def _argv(engine: DockerEngine, slot: int, bridge: str) -> list[str]:
    folder = engine.folder
    return [
        "dockerd",
        f"--data-root={folder}/data",
        f"--exec-root={folder}/exec",
        f"--pidfile={folder}/dockerd.pid",
        f"--host={engine.host}",
        f"--bridge={bridge}",
        f"--default-address-pool=base=10.214.{slot * 16}.0/20,size=24",
        # Two daemons with one set of rules would flush each other's.
        "--iptables=false",
        "--log-level=warn",
    ]


def answers(path: Path) -> bool:
    """Whether a daemon answers at that socket."""
    try:
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(5)
            client.connect(str(path))
            client.sendall(b"GET /_ping HTTP/1.0\r\n\r\n")
            return b" 200 " in client.recv(100)
    except OSError:
        return False


@contextmanager
def _bridge(slot: int) -> Iterator[str]:
    """The default network of a slot, and leave to reach the world from all of its networks."""
    name, addresses = f"pttest{slot}", (f"10.213.{slot}.0/24", f"10.214.{slot * 16}.0/20")
    rules = [rule for address in addresses for rule in _rules(address, name)]
    _remove(name, rules)
    try:
        _sh("ip", "link", "add", name, "type", "bridge")
        _sh("ip", "addr", "add", f"10.213.{slot}.1/24", "dev", name)
        _sh("ip", "link", "set", name, "up")
        for table, chain, rule in rules:
            _sh("iptables", "-w", "-t", table, "-I", chain, *rule)
        yield name
    finally:
        _remove(name, rules)


def _rules(address: str, comment: str) -> Iterator[tuple[str, str, Sequence[str]]]:
    mark = ("-m", "comment", "--comment", comment)
    yield "nat", "POSTROUTING", ("-s", address, "!", "-d", address, *mark, "-j", "MASQUERADE")
    yield "filter", "FORWARD", ("-s", address, *mark, "-j", "ACCEPT")
    yield "filter", "FORWARD", ("-d", address, *mark, "-j", "ACCEPT")


def _remove(name: str, rules: Sequence[tuple[str, str, Sequence[str]]]) -> None:
    """Also what a killed session has left."""
    for table, chain, rule in rules:
        while _succeeds("iptables", "-w", "-t", table, "-D", chain, *rule):
            pass
    _succeeds("ip", "link", "delete", name)


def empty(engine: DockerEngine) -> None:
    """Remove all containers, networks, volumes and images but the bases. Safe to repeat."""
    if containers := engine.docker("ps", "-aq").split():
        engine.docker("rm", "-f", "-v", *containers)
    engine.docker("network", "prune", "-f")
    engine.docker("volume", "prune", "-f")
    listed = engine.docker("image", "ls", "--format", "{{.Repository}} {{.ID}}").splitlines()
    bases = {row.split()[1] for row in listed if row.split()[0] == BASE_REPOSITORY}
    if others := {row.split()[1] for row in listed} - bases:
        engine.docker("image", "rm", "-f", *sorted(others))
    # A step that an earlier session has run says nothing any more; what apt and pip have fetched is kept.
    engine.docker("builder", "prune", "-af", "--filter", "type=regular")
    engine.docker("builder", "prune", "-f", f"--keep-storage={_KEPT_CACHE}")


def _sh(*argv: str) -> None:
    subprocess.run(argv, check=True, capture_output=True)


def _succeeds(*argv: str) -> bool:
    return subprocess.run(argv, check=False, capture_output=True).returncode == 0
