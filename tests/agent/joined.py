"""A fleet that agents made on the lab's hosts, and a repository that is trained on it from a machine of a user."""

from __future__ import annotations

import contextlib
import json
import shutil
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.engines.project import PUSHTRAIN, wait_for
from tests.lab.host import GPU_STATE, Host
from tests.slurm.project import FleetProject

if TYPE_CHECKING:
    from tests.lab import Lab

CONF = {"SLURM_CONF": "/run/pushtrain/slurm.conf"}
HOSTS = ("h0", "h1", "h2")
COMMAND_WITHIN_S = 120.0
# Of the fleet at GitHub, on the head; see runner/watcher/token.py.
GITHUB_TOKEN = "/var/lib/pushtrain/github-token"


@dataclass
class Joined(FleetProject):
    """h0 is the head, h1 and h2 are hosts of it, h3 is a client, on which commands are typed."""

    me: str = "h3"

    def agent(self, name: str, *words: str) -> str:
        """What `pushtrain agent WORDS…` prints on a host."""
        done = self.host(name).run(
            str(PUSHTRAIN), "agent", *words, environ=self.environ, timeout_s=COMMAND_WITHIN_S
        )
        return done.stdout + done.stderr

    def slurm(self, *argv: str) -> str:
        """What a command of Slurm prints on the head."""
        return self.host("h0").run(*argv, environ=CONF).stdout

    def typed(self, *words: str) -> Any:
        """The JSON of a command that a user types."""
        return json.loads(self.pushtrain(*words, "--json").output)

    def _own(self) -> Mapping[str, str]:
        return self.environ

    def _scratch(self, host: Host) -> Path:
        return host.path(host.state) / "scratch"

    def scratch(self, name: str, run_id: str, node: int) -> Path:
        """Where a host has what a node of a run works in."""
        return self._scratch(self.host(name)) / run_id / f"node-{node}" / "work"

    def forget_scratch(self, name: str) -> None:
        """Do what the next collection of a host would: remove what runs left there that ended without it."""
        shutil.rmtree(self._scratch(self.host(name)), ignore_errors=True)

    def _of_slurm(self) -> Iterator[str]:
        for argv in (("squeue", "--format=%i %T %N %r"), ("sinfo", "-N", "--format=%N %P %a %T %E")):
            yield self.host("h0").run(*argv, environ=CONF, check=False).stdout
        for host in self.hosts:
            for name in ("agent", "publisher", "slurmctld"):
                log = host.path(f"/var/lib/pushtrain/log/{name}.log")
                yield f"--- {name} of {host.name}\n{log.read_text()[-3000:]}" if log.exists() else ""

    def leftovers(self) -> list[str]:
        """What ended runs left that they should not; GPUs that nobody has and that are not free are among it."""
        left = super().leftovers()
        told = self.slurm("scontrol", "show", "node", "--detail", "--oneliner").splitlines()
        used = [line.partition("GresUsed=")[2].partition(" ")[0] for line in told]
        return left + [gres for gres in used if "IDX:N/A" not in gres]

    # Hosts

    def states(self) -> dict[str, str]:
        """The hosts as Slurm has them."""
        said = self.slurm("sinfo", "-hN", "-p", "p50", "-o", "%N %T")
        return dict(line.split() for line in said.splitlines())

    def until_idle(self, *names: str) -> None:
        """Wait until these hosts are free.

        Backfill looks only while a job waits: hosts that it planned for the last one are called so until the next.
        """
        free = ("idle", "planned")
        wait_for(
            lambda: all(self.states().get(name) in free for name in names or HOSTS),
            what="idle hosts",
            told=self.told,
            within_s=150,
        )

    def daemon(self, name: str, daemon: str) -> int:
        """The number of a daemon's process on its host, as the agent there has it; 0 where it does not run."""
        noted = json.loads(self.host(name).path("/run/pushtrain/daemons.json").read_text())
        process = noted[daemon]["process"]
        return int(process["pid"]) if process else 0

    def kill_daemon(self, name: str, daemon: str) -> None:
        """Kill -9 a daemon by its number, and wait until the agent has started another."""
        before = self.daemon(name, daemon)
        assert before, f"{daemon} does not run on {name}: {self.told()}"
        self.host(name).run("kill", "-9", str(before))
        wait_for(lambda: self.daemon(name, daemon) not in (0, before), what=f"another {daemon}", within_s=90)

    def until_remembered(self) -> None:
        """Wait until Slurm has written down what runs: a slurmctld that is killed forgets the last seconds."""
        began_s, saved = time.time(), self.host("h0").path("/var/lib/pushtrain/slurmctld/job_state")
        for job in self.jobs():  # A change, since without one nothing is written.
            self.slurm("scontrol", "update", f"JobId={job.split()[0]}", "AdminComment=lab")
        wait_for(lambda: saved.exists() and saved.stat().st_mtime > began_s, what="its state", within_s=60)

    def kill_agent(self, name: str) -> None:
        """Kill -9 the agent of a host, not its daemons."""
        self.host(name).run("sh", "-c", "kill -9 $(cat /run/pushtrain/agent.pid)")

    def strangers(self, name: str) -> list[dict[str, str]]:
        """What was ended on a host as nobody's, since it booted."""
        log = self.host(name).path("/run/pushtrain/strangers.log")
        return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []

    def use_gpu(self, name: str, number: int, *pids: int) -> None:
        """Have the fake NVML of a host say that these processes compute on its GPU."""
        state = {f"GPU-fake-{name}-{number}": {"processes": {str(pid): 1024 for pid in pids}}}
        self.host(name).path(GPU_STATE).write_text(json.dumps(state))


@contextlib.contextmanager
def begun(lab: Lab, *, store: Path, token: str, environ: Mapping[str, str] | None = None) -> Iterator[Lab]:
    """A fleet on a new lab: h0 its head, with a token of GitHub, h1 and h2 its hosts, h3 the machine of a user.

    `environ` is what the agents have besides.
    """
    lab.renew()
    lab.boot("h3")
    here = lab.base_image()
    lab.head.docker("tag", here, f"{lab.registry.address}/base:1")
    lab.head.docker("push", "--quiet", f"{lab.registry.address}/base:1")
    fleet = Joined(
        folder=lab.plan.share,
        home=lab.plan.share,
        engine="slurm",
        environment={},
        store_uri=str(store),
        environ=dict(environ or {}),
        lab=lab,
    )
    give_token(lab.head, token)
    told = fleet.agent("h0", "start", "--head", "--store", str(store), "--registry", lab.registry.address)
    assert "pushtrain agent start --join" in told
    copy = lab.plan.share / "pushtrain.token"
    shutil.copy(lab.head.path("/var/lib/pushtrain/token"), copy)
    copy.chmod(0o600)
    for name, further in (("h1", ()), ("h2", ()), ("h3", ("--client",))):
        fleet.agent(name, "start", "--join", "h0", "--token-file", str(copy), *further)
    fleet.until_idle()
    try:
        yield lab
    finally:
        lab.host("h3").off()
        copy.unlink()
        shutil.rmtree(store, ignore_errors=True)


def give_token(host: Host, token: str) -> None:
    """Let a host have a token of GitHub where those that watch look for it."""
    path = host.path(GITHUB_TOKEN)
    path.parent.mkdir(mode=0o700, exist_ok=True)
    path.touch(mode=0o600)
    path.write_text(f"{token}\n")
