"""A repository that is trained on the lab's hosts by `pushtrain --engine slurm`, typed on one of them."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from runner import runs
from tests.engines.project import PUSHTRAIN, Command, Project, wait_for

if TYPE_CHECKING:
    from tests.lab import Lab
    from tests.lab.host import Host

HOME = "/var/lib/pushtrain-home"
"""PUSHTRAIN_HOME of runs: on every host a folder of its own, at the same path."""
# Slurm sees a lost host after some 27 s, and lets a job that it put back wait for six more.
FLEET_WITHIN_S = 120.0


@dataclass
class FleetProject(Project):
    """A project whose commands are typed on a host of the lab, `me`."""

    lab: Lab | None = None
    me: str = "h0"
    # Hosts that were gone when their run ended: its folder stays there until the next collection.
    lost: set[str] = field(default_factory=set)

    @property
    def hosts(self) -> tuple[Host, ...]:
        """The hosts that are on."""
        assert self.lab is not None
        return self.lab.hosts

    def host(self, name: str) -> Host:
        """The host of that name."""
        assert self.lab is not None
        return self.lab.host(name)

    def start(self, *arguments: str) -> Command:
        """Start `pushtrain ARGUMENTS…` on the host `me`."""
        path = self.folder.parent / f"command-{len(self.commands)}.txt"
        with path.open("wb") as output:
            child = self.host(self.me).popen(
                str(PUSHTRAIN),
                *arguments,
                folder=self.folder,
                environ=self._own(),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.commands.append(Command(child, path))
        return self.commands[-1]

    def _own(self) -> Mapping[str, str]:
        return {"PUSHTRAIN_ENGINE": self.engine, "PUSHTRAIN_STORE": self.store_uri, **self.environ}

    def slurm(self, *argv: str) -> str:
        """What a command of Slurm prints on the head."""
        return self.host("h0").run(*argv).stdout

    def drain(self, *names: str) -> None:
        """Have Slurm give these hosts no more jobs."""
        for name in names:
            self.slurm("scontrol", "update", f"NodeName={name}", "State=DRAIN", "Reason=kept free")

    def resume(self, *names: str) -> None:
        """The reverse of `drain`."""
        for name in names:
            self.slurm("scontrol", "update", f"NodeName={name}", "State=RESUME")

    def jobs(self) -> list[str]:
        """All jobs that wait, run or are being ended, as `ID STATE HOSTS`."""
        return self.slurm("squeue", "--noheader", "--format=%i %T %N").splitlines()

    def node_of(self, number: int) -> Host:
        """The host of a node of the newest run."""
        found = self.reservation(self.run.id)
        return self.host(found[number])

    def reservation(self, run_id: str) -> list[str]:
        """The hosts of a run by node rank."""
        from runner.record import Record

        kept = Record(self.store, run_id).reservation()
        assert kept is not None
        return [slot.host for slot in kept.slots]

    def batch_host(self) -> Host:
        """The host on which the newest run's supervisor is."""
        supervisor = self.run.supervisor
        assert supervisor is not None
        return self.host(supervisor.host)

    def work(self, node: int = 0) -> Path:
        """The working folder of a node of the newest run, as this machine sees it."""
        scratch = self._scratch(self.node_of(node))
        return scratch / self.run.id / f"node-{node}" / "work"

    def _scratch(self, host: Host) -> Path:
        return host.path(self.environ["PUSHTRAIN_HOME"]) / "scratch"

    def until_kept(self) -> None:
        """Wait until something that the newest run wrote is in the store."""
        prefix = f"runs/{self.run.id}/live/"
        wait_for(lambda: list(self.store.keys(prefix)), what="a checkpoint in the store", told=self.told)

    def until_attempt(self, number: int) -> None:
        """Wait until the newest run is in that attempt, its rank 0 speaking."""
        wait_for(
            lambda: self.run.attempt >= number and self.log(self.run.id, attempt=number),
            what=f"attempt {number}",
            told=self.told,
            within_s=FLEET_WITHIN_S,
        )

    def told(self) -> str:
        """What commands and supervisors said."""
        folders = [self._scratch(host) for host in self.hosts]
        logs = (folder / run_id / "supervisor.log" for folder in folders for run_id in self.run_ids)
        files = [*(command.path for command in self.commands), *(path for path in logs if path.exists())]
        said = [f"--- {path}\n{path.read_text(errors='replace')[-3000:]}" for path in files]
        return "\n".join([*said, "--- jobs", *self._of_slurm(), *self._of_hosts()])

    def _of_slurm(self) -> Iterator[str]:
        for argv in (
            ("squeue", "--format=%i %T %N %r %V"),
            ("sinfo", "-N", "--partition=p50", "--format=%N %T %E"),
            ("date",),
        ):
            done = self.host("h0").run(*argv, check=False) if self.host("h0").process else None
            yield done.stdout + done.stderr if done is not None else "h0 is off"

    def _of_hosts(self) -> Iterator[str]:
        for host in self.hosts:
            listed = host.run("docker", "ps", "-a", "--format", "{{.Names}} {{.Status}}", check=False)
            yield f"--- {host.name}: {listed.stdout}{listed.stderr}"
            for log in self._scratch(host).glob("*/*/host.log"):
                yield log.read_text(errors="replace")[-1000:]

    def leftovers(self) -> list[str]:
        """What ended runs left on the fleet that they should not."""
        left = [f"job {job}" for job in self.jobs()]
        used = self.slurm("scontrol", "show", "node", "--oneliner").splitlines()
        left += [line for line in used if "AllocTRES= " not in f"{line} "]
        for host in self.hosts:
            names = host.docker("ps", "--all", "--filter", "label=pushtrain.run", "--format", "{{.Names}}")
            left += [f"{host.name}: container {name}" for name in names.splitlines()]
            names = host.docker("network", "ls", "--filter", "label=pushtrain.run", "--format", "{{.Name}}")
            left += [f"{host.name}: network {name}" for name in names.splitlines()]
            for module in ("runner.host", "runner.host.leash", "runner.supervise", "srun"):
                left += [f"{host.name}: {module} {pid}" for pid in host.pids(module)]
            left += [f"{host.name}: {path}" for path in host.path("/dev/shm").glob("pushtrain-*")]
            folders = self._scratch(host).glob("*") if host.name not in self.lost else ()
            left += [f"{host.name}: {path}" for path in folders if self._ended(path.name)]
        return left

    def end(self) -> None:
        """End what is left of the project, whatever it is."""
        for job in self.jobs():
            self.slurm("scancel", job.split()[0])
        for command in self.commands:
            if command.child.poll() is None:
                command.child.kill()
            command.child.wait()


@contextmanager
def fleet_project(lab: Lab, folder: Path, image: str) -> Iterator[FleetProject]:
    """A project in `folder`, which all hosts see and which is made here; what is left of its runs is ended."""
    folder.mkdir(parents=True)
    made = FleetProject(
        folder=folder / "repository",
        home=folder / "home",
        engine="slurm",
        environment={"image": image},
        store_uri=str(folder / "store"),
        environ={"PUSHTRAIN_HOME": HOME, "PUSHTRAIN_REGISTRY": lab.registry.address},
        lab=lab,
    )
    try:
        yield made
    finally:
        made.end()


def push_base(lab: Lab) -> str:
    """Load the base image on the head and push it; its reference in the lab's registry. Safe to repeat."""
    return lab.pushed_image()


def kept(run: runs.Run) -> list[str]:
    """How the attempts of a run ended."""
    return [attempt.outcome for attempt in run.attempts]
