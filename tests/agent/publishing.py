"""The watcher's scene on a fleet: `pushtrain watch` and jobs of Actions on its machines, GitHub's stand-in outside."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runner import pipeline
from runner.errors import NotFound
from tests.agent.joined import GITHUB_TOKEN, Joined
from tests.answer.scene import DOCUMENT, TRAINS
from tests.engines.project import Command, Finished, Project
from tests.lab import Lab
from tests.lab.host import Host
from tests.services.github import GitHub
from tests.watcher.scene import Scene

# Rank 0 of three waits until it is let go, so that a test has a run to look at.
HOLDS = f"""
if os.environ["PUSHTRAIN_RANK"] != "0":
    sys.exit()
print("begun", flush=True)
hold()
{TRAINS}
"""


# Where the runner of GitHub Actions on a head keeps its things; the agent has another place.
ACTIONS_HOME = "/var/lib/actions-runner/pushtrain"


def project(folder: Path, host: str, *, lab: Lab, store: Path, github: GitHub) -> Joined:
    """What is typed on a host, with the store of the fleet."""
    place = folder / f"on-{host}" / "here"
    place.mkdir(parents=True)
    return Joined(
        folder=place,
        home=folder / "none",
        engine="slurm",
        environment={},
        store_uri=str(store),
        environ={
            "PUSHTRAIN_ENGINE": "slurm",
            "GITHUB_API_URL": github.url,
            "GITHUB_SERVER_URL": github.url,
        },
        lab=lab,
        me=host,
    )


@dataclass(kw_only=True)
class FleetScene(Scene):
    """`project` is the head; `machine` gives another one by its name. The token lies on them alone."""

    project: Joined
    model: str

    @property
    def lab(self) -> Lab:
        assert self.project.lab is not None
        return self.project.lab

    def sections(self, **sections: Any) -> dict[str, Any]:
        """Of a train.yml: an image of the lab's registry on all three hosts, a model that no other test releases."""
        return {
            "environment": {"image": f"{self.lab.registry.address}/base:1"},
            "resources": {"nodes": 3},
            "release": {**DOCUMENT["release"], "model": self.model},
            **sections,
        }

    def machine(self, name: str) -> Joined:
        """Another machine of the fleet."""
        made = project(
            self.folder, name, lab=self.lab, store=Path(self.project.store_uri), github=self.github
        )
        self.machines.append(made)
        return made

    def watch(self, *options: str, on: Project | None = None) -> Command:
        """Start to watch the repository, by the token of that machine."""
        return (on or self.project).start("watch", self.repository.name, "--every", "1s", *options)

    def runs(self) -> tuple[str, ...]:
        """The runs of the repository, oldest first; the store is that of the whole fleet."""
        return tuple(run_id for run_id in self.project.run_ids if self._is_ours(run_id))

    def _is_ours(self, run_id: str) -> bool:
        with contextlib.suppress(NotFound):  # What is just being made has no plan yet.
            return pipeline.plan_of(self.project.store, run_id).asked.repository == self.repository.name
        return False

    def let_go(self, run_id: str) -> None:
        """Let a run go on, wherever its rank 0 is."""
        first = self.project.reservation(run_id)[0]
        (self.project.scratch(first, run_id, 0) / "go").touch()

    def end(self) -> None:
        """Kill whoever watches, and end what is left."""
        for each in (self.project, *self.machines):
            _end_commands(each)
        self.project.end()


def forward(github: GitHub, *, to: Host) -> None:
    """Have a host reach GitHub's stand-in at its own loopback: tokens are sent nowhere else in the clear."""
    to.run("sh", "-c", "echo 1 >/proc/sys/net/ipv4/conf/all/route_localnet")
    outside = to.plan.outside
    rules = [
        ("OUTPUT", "--dst", "127.0.0.1", "--dport", str(port), "--jump", "DNAT", "--to", f"{outside}:{port}")
        for port in github.ports
    ]
    for rule in (*rules, ("POSTROUTING", "--src", "127.0.0.1", "--dst", outside, "--jump", "MASQUERADE")):
        to.run("iptables", "-w", "-t", "nat", "-A", rule[0], "--protocol", "tcp", *rule[1:])


def kill(command: Command) -> None:
    """SIGKILL."""
    _signal(command, signal.SIGKILL)
    command.child.wait()


def stop(command: Command) -> Finished:
    """SIGTERM."""
    _signal(command, signal.SIGTERM)
    return command.finish(within_s=90)


def _signal(command: Command, number: signal.Signals) -> None:
    """To what was typed on a host, not to our child, which carries it there and has it end by SIGTERM in any case."""
    carrier = command.child.pid
    for pid in Path(f"/proc/{carrier}/task/{carrier}/children").read_text().split():
        os.kill(int(pid), number)


def _end_commands(each: Project) -> None:
    for command in each.commands:
        if command.child.poll() is None:
            kill(command)


def carriers_of(secret: str) -> list[str]:
    """Command lines on this machine, on all hosts and in containers that were given a secret, or in whose environment
    it is.
    """
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            told = (place / "environ").read_bytes() + (place / "cmdline").read_bytes()
            if secret.encode() in told:
                found.append((place / "cmdline").read_text().replace("\0", " "))
    return found


def files_with(secret: str, *folders: Path) -> list[str]:
    """Files below these folders in which it stands."""
    there = [str(each) for each in folders if each.exists()]
    done = subprocess.run(
        ["grep", "-rlaF", "-D", "skip", "--", secret, *there], capture_output=True, text=True, check=False
    )
    return done.stdout.splitlines()


def places(hosts: Iterable[Host]) -> Iterator[Path]:
    """Where something of a run or of an agent may lie on a host, but for the token's own file."""
    for host in hosts:
        for each in (host.state, host.home, ACTIONS_HOME, "/var/spool", "/run", "/dev/shm"):
            yield host.path(each)
        own = host.path(GITHUB_TOKEN)
        yield from (path for path in own.parent.iterdir() if path.name != own.name)
