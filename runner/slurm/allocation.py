"""The job in which this process runs -> its hosts, lines to them, and whether Slurm takes it away."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from runner import decoding
from runner.errors import EngineError
from runner.slurm.client import COMMAND_WITHIN_S, run_folder
from runner.slurm.left_out import deaf
from runner.slurm.nodes import nodes
from runner.slurm.queue import ENDED, jobs
from runner.slurm.submission import on_host
from runner.slurm.waiting import taken_by

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from runner.slurm.client import Slurm


class Unanswered(EngineError):
    """Hosts of the job that do not answer, or will not do: why, by their names in the cluster.

    `stuck` are those that have to be mended by hand before anything runs on them.
    """

    def __init__(self, message: str, *, hosts: Mapping[str, str], stuck: Collection[str] = ()) -> None:
        super().__init__(message, tip="pushtrain runners")
        self.hosts, self.stuck = hosts, stuck


class Fate(Enum):
    """What becomes of a job that was signalled."""

    RUNS = "it runs on"
    PUT_BACK = "Slurm starts it again"
    TIMED_OUT = (
        "Slurm ended its job: a time limit was reached: its own, its partition's, or the hours of its account"
    )
    OVER = "its job is over: somebody ended it, or its batch script"


class Here(msgspec.Struct, frozen=True, kw_only=True):
    """What one host of the job says of itself, see roll.py. `host` is its name in the cluster, `name` its own."""

    host: str
    name: str
    address: str
    interface: str
    network: str
    cpus: float
    gpus: tuple[str, ...]
    home: str
    models: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Allocation:
    """The job of this process; `restarts` counts how often Slurm started it again."""

    slurm: Slurm
    job: str
    name: str
    restarts: int
    hosts: int

    @property
    def label(self) -> str:
        """What tells this start of the job from all others."""
        return f"{self.job}.{self.restarts}"

    def roll(self, *, end: str | None = None, drop: str | None = None) -> tuple[Here, ...]:
        """Ask every host of the job at once, see roll.py; in the order of their addresses as texts.

        Raises Unanswered when one does not answer or tells a fault.
        """
        chosen = (*(("--end", end) if end else ()), *(("--drop", drop) if drop else ()))
        argv = step(
            ("-m", "runner.slurm.roll", *self._peers(), *chosen),
            ("--nodes", str(self.hosts), "--ntasks", str(self.hosts), "--kill-on-bad-exit=0"),
            conf=self._conf(),
        )
        try:
            done = subprocess.run(
                argv,
                capture_output=True,
                text=True,
                stdin=subprocess.DEVNULL,
                timeout=COMMAND_WITHIN_S,
                check=False,
            )
            printed, said = done.stdout, last_said(done.stderr)
        except subprocess.TimeoutExpired as error:
            printed, said = _text(error.stdout), f"nothing within {COMMAND_WITHIN_S:g} s"
        told = said_by_hosts(printed)
        if len(told) < self.hosts or any("fault" in each for each in told):
            raise self._unanswered(told, said)
        found = [decoding.from_objects(each, Here) for each in told]
        return tuple(sorted(found, key=lambda here: here.address))

    def _unanswered(self, told: Sequence[dict[str, Any]], said: str) -> Unanswered:
        faults = {each["host"]: each["fault"] for each in told if "fault" in each}
        silent = sorted(set(self._names()) - {each["host"] for each in told})
        why = [f"{host}: {fault}" for host, fault in faults.items()]
        if silent:
            why.append(f"{len(silent)} of {self.hosts} hosts did not answer ({', '.join(silent)}): {said}")
        hosts = {**faults, **dict.fromkeys(silent, "it did not answer")}
        return Unanswered(
            "; ".join(why), hosts=hosts, stuck=[each["host"] for each in told if each.get("stuck")]
        )

    def line(self, host: str, program: Sequence[str]) -> tuple[str, ...]:
        """The command that starts `python PROGRAM` on a host, its input and output being that program's."""
        return step(program, ("--nodes", "1", "--ntasks", "1", "--nodelist", host), conf=self._conf())

    def _conf(self) -> Path | None:
        """A slurm.conf that names the hosts of this job, where they have registered themselves.

        When slurmctld has been started again, srun finds those of an earlier job no more ("Can't find an address",
        seen with 22.05): such a job could start nothing on them until it ends.
        """
        if self.slurm.conf is None:
            return None
        made = Path(os.environ["PUSHTRAIN_HOME"]) / "scratch" / self.name / f"slurm-{self.label}.conf"
        if not made.exists():
            own = set(self._names())
            rows = [
                f"NodeName={node.name} NodeAddr={node.address}\n"
                for node in nodes(self.slurm)
                if node.name in own and any(state.startswith("DYNAMIC") for state in node.states)
            ]
            if not rows:
                return None
            made.parent.mkdir(parents=True, exist_ok=True)
            part = made.with_suffix(".part")
            part.write_text("".join([self.slurm.conf.read_text(), "\n", *rows]))
            part.replace(made)
        return made

    def fate(self) -> Fate:
        """What becomes of the job: preempted, requeued, a host or the batch script was lost, or it was ended for good.

        PUT_BACK as well where slurmctld does not say: nothing is lost by leaving the run open.
        """
        try:
            text = self.slurm.run("scontrol", "show", "job", self.job, "--oneliner", patience_s=5.0)
        except EngineError:
            return Fate.PUT_BACK
        return fate(text, restarts=self.restarts)

    def taken_by(self) -> str:
        """Why Slurm takes the hosts away, empty where that is not known. Raises EngineError."""
        asked = replace(self.slurm, patience_s=0.0)
        partition = os.environ.get("SLURM_JOB_PARTITION", "")
        return taken_by(self._names(), partition, jobs(asked), nodes(asked), now_s=time.time())

    def requeue(self, *, behind: Sequence[str]) -> None:
        """Give the hosts back, and start again only when those jobs have ended. Slurm ends this process then.

        Raises EngineError where the job is not put back.
        """
        with deaf():
            self.slurm.run("scontrol", "requeue", self.job)
            # Without that it would only come back to wait again.
            dependency = f"Dependency=singleton,afterany:{':'.join(behind)}"
            with contextlib.suppress(EngineError):
                self.slurm.run("scontrol", "update", f"JobId={self.job}", dependency)

    def _names(self) -> list[str]:
        return self.slurm.run("scontrol", "show", "hostnames", os.environ["SLURM_JOB_NODELIST"]).split()

    def _peers(self) -> list[str]:
        names = self._names()
        known = {node.name: node.address for node in nodes(self.slurm)}
        return [word for name in names for word in ("--peer", f"{name}={known.get(name, name)}")]


def fate(text: str, *, restarts: int) -> Fate:
    """As `Allocation.fate`, of what scontrol printed: Slurm counts a start as soon as it decides on it. Pure."""
    # The first of each name: a comment that says the same words comes later.
    fields = dict(word.partition("=")[::2] for word in reversed(text.split()))
    state = fields.get("JobState", "")
    if int(fields.get("Restarts", 0)) > restarts or state not in ("RUNNING", "COMPLETING", *ENDED):
        return Fate.PUT_BACK
    if state == "RUNNING":
        return Fate.RUNS
    return Fate.TIMED_OUT if state == "TIMEOUT" or fields.get("Reason") == "TimeLimit" else Fate.OVER


def said_by_hosts(printed: str) -> list[dict[str, Any]]:
    """What each host said in a line of its own; others are left out, as that in which a host was cut off."""
    told = []
    for line in printed.splitlines():
        if line.startswith("{"):
            with contextlib.suppress(json.JSONDecodeError):
                told.append(json.loads(line))
    return told


def last_said(errors: str) -> str:
    """The last sentences of what a step said, without where in a program they arose. Pure."""
    lines = [line.strip() for line in errors.splitlines() if line.strip() and not line.startswith(" ")]
    return (
        "; ".join([line for line in lines if not line.startswith("Traceback ")][-3:]) or "they said nothing"
    )


def _text(printed: bytes | str | None) -> str:
    """What a command printed before its time was over, which Python leaves as bytes."""
    return printed.decode(errors="replace") if isinstance(printed, bytes) else printed or ""


def mine(slurm: Slurm) -> Allocation | None:
    """The job of this process, None where it runs outside of any."""
    environ = os.environ
    if "SLURM_JOB_ID" not in environ:
        return None
    return Allocation(
        slurm=slurm,
        job=environ["SLURM_JOB_ID"],
        name=environ.get("SLURM_JOB_NAME", ""),
        restarts=int(environ.get("SLURM_RESTART_COUNT", 0)),
        hosts=int(environ.get("SLURM_JOB_NUM_NODES", 1)),
    )


def step(program: Sequence[str], where: Sequence[str], *, conf: Path | None = None) -> tuple[str, ...]:
    """An srun beside whatever else the job runs, without waiting for it; it reads `conf`, None for Slurm's own."""
    home = os.environ.get("PUSHTRAIN_HOST_HOME", "")
    found = ("/bin/sh", "-c", on_host(), "on-host", sys.executable, home, str(run_folder()))
    reading = ("env", f"SLURM_CONF={conf}") if conf is not None else ()
    return (*reading, "srun", "--overlap", "--quiet", "--unbuffered", "--chdir=/", *where, *found, *program)
