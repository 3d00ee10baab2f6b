"""A host for tests: a folder of an agent, fake commands of Slurm, fake GPUs, and processes that a job left.

All of it is in a PID namespace of its own: what is tried here ends processes by what they carry, also other tests'.
"""

from __future__ import annotations

import contextlib
import http.server
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

FAKES = Path(__file__).parents[1] / "fakes"
NODE = "gpu1"
GPUS = "NVIDIA H100 80GB HBM3:2"
WAIT = "import os, sys; print(os.getpid(), flush=True); sys.stdin.read()"
STUBBORN = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {WAIT}"

# The cluster is JSON: {"jobs": [[id, name, gres, start]], "state": "IDLE", "reason": ""}; without it slurmctld is away.
# Of no state it is no host of the fleet yet.
SLURM = f"""\
#!{sys.executable}
import json, pathlib, sys
name, argv = pathlib.Path(sys.argv[0]).name, sys.argv[1:]
place = pathlib.Path(__file__).with_name("cluster.json")
if argv[:2] == ["show", "hostnames"]:
    sys.exit(print(argv[2]))
if not place.exists():
    sys.exit(name + ": error: Unable to contact slurm controller (connect failure)")
cluster = json.loads(place.read_text())
jobs = cluster["jobs"]
if not cluster["state"]:
    sys.exit({{"squeue": "slurm_load_jobs error: Invalid node name specified"}}.get(name, "Node {NODE} not found"))
if name == "squeue":
    if "-j" in argv:
        jobs = [job for job in jobs if job[0] == argv[argv.index("-j") + 1]]
    if "-n" in argv:
        jobs = [job for job in jobs if job[1] == argv[argv.index("-n") + 1]]
    fields = [field.split(":") for field in argv[argv.index("-O") + 1].split(",")]
    for job in jobs:
        print("".join(dict(JobID=job[0], Name=job[1], StartTime=job[3])[key].ljust(int(room)) for key, room in fields))
elif argv[:2] == ["show", "job"]:
    job = next(job for job in jobs if job[0] == argv[-1])
    print(f"JobId={{job[0]}} JobName={{job[1]}} Nodes={NODE} CPU_IDs=0 Mem=0 GRES={{job[2]}} TresPerNode=x")
elif argv[:2] == ["show", "node"]:
    print(f"NodeName={NODE} NodeAddr=10.0.0.1 State={{cluster['state']}} Reason={{cluster['reason']}}")
elif argv[0] == "update":
    told = dict(word.partition("=")[::2] for word in argv[1:])
    assert told["nodename"] == "{NODE}", argv
    drains = told["state"] == "drain"
    cluster["state"] = "IDLE+DRAIN" if drains else "IDLE"
    cluster["reason"] = told["reason"] + " [root@2026-11-22T06:00:00]" if drains else ""
    cluster["updates"] = cluster.get("updates", 0) + 1
    place.write_text(json.dumps(cluster))
else:
    sys.exit(f"{{name}} {{argv}}?")
"""


@dataclass(frozen=True)
class Child:
    """A process of the host; `pid` is its number there."""

    pid: int
    popen: subprocess.Popen[str]

    @property
    def runs(self) -> bool:
        return self.popen.poll() is None

    def code(self) -> int:
        """How it ended; waits for that."""
        return self.popen.wait(timeout=10)

    def end(self) -> None:
        self.popen.communicate(timeout=10)


class HeadsClock(http.server.BaseHTTPRequestHandler):
    """The head's agent as far as its clock is asked for, whose time is `late_s` behind this machine's.

    `right_after` so many more answers the clocks agree.
    """

    late_s = 0.0
    right_after: int | None = None

    def date_time_string(self, timestamp: float | None = None) -> str:
        """As its base."""
        clock = type(self)
        if clock.right_after is not None:
            clock.right_after -= 1
            if clock.right_after < 0:
                clock.late_s, clock.right_after = 0.0, None
        return super().date_time_string(time.time() - clock.late_s)

    def do_HEAD(self) -> None:
        """An agent says no more to whoever shows no token."""
        self.send_response(501)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Nothing."""


@contextlib.contextmanager
def heads_clock() -> Iterator[tuple[int, type[HeadsClock]]]:
    """A head that tells its time, by its port, and what its clock can be set by."""
    clock = type("Clock", (HeadsClock,), {})
    with http.server.HTTPServer(("127.0.0.1", 0), clock) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_port, clock
        server.shutdown()
        thread.join()


@dataclass
class Host:
    """`run` is the agent's folder; `environ` is what the programs under test get."""

    folder: Path
    first: subprocess.Popen[str]
    environ: dict[str, str] = field(default_factory=dict)
    children: list[subprocess.Popen[str]] = field(default_factory=list)

    @classmethod
    def made(cls, folder: Path) -> Host:
        """A host with two GPUs and no job."""
        commands, run = folder / "bin", folder / "run"
        for each in (commands, run, folder / "home"):
            each.mkdir()
        for name in ("squeue", "scontrol"):
            (commands / name).write_text(SLURM)
            (commands / name).chmod(0o755)
        (run / "slurm.conf").write_text("")
        (run / "home").symlink_to(folder / "home")
        (run / "gpus.json").write_text(json.dumps([{"uuid": "GPU-fake-0"}, {"uuid": "GPU-fake-1"}]))
        first = subprocess.Popen(
            [
                "unshare",
                "--pid",
                "--mount",
                "--fork",
                "--mount-proc",
                "--kill-child",
                sys.executable,
                "-c",
                WAIT,
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert first.stdout is not None
        assert first.stdout.readline() == "1\n"
        host = cls(
            folder=folder,
            first=first,
            environ={
                "PATH": f"{commands}:{os.environ['PATH']}",
                "PUSHTRAIN_RUN": str(run),
                "PYTHONPATH": str(FAKES),
                "FAKE_GPUS": GPUS,
                "FAKE_GPU_STATE": str(folder / "gpus.json"),
                "DOCKER_HOST": f"unix://{folder}/no-docker",
            },
        )
        host.cluster()
        return host

    @property
    def run(self) -> Path:
        return self.folder / "run"

    def cluster(
        self, *jobs: tuple[str, str, str], began: str = "N/A", state: str = "IDLE", reason: str = ""
    ) -> None:
        """What Slurm says from now on: jobs as (id, name, GRES), when they began, and how it has the host."""
        (self.folder / "bin" / "cluster.json").write_text(
            json.dumps({"jobs": [(*job, began) for job in jobs], "state": state, "reason": reason})
        )

    def is_member(self, *, head_port: int) -> None:
        """From now on it is a host of a fleet whose head's agent is at that port of this machine."""
        told = {
            "role": "member", "works": True, "name": NODE, "address": "127.0.0.1", "cluster": "lab", "head": "gpu0",
            "head_address": "127.0.0.1", "store": None, "registry": None, "metrics_port": head_port, "state": "/none",
            "pushtrain": "0.1.0", "slurm": "22.05.8", "host_conf": "", "serves_registry": False,
        }  # fmt: skip
        (self.run / "agent.json").write_text(json.dumps(told))
        (self.run / "munge.socket").touch()

    def slurmctld_dies(self) -> None:
        (self.folder / "bin" / "cluster.json").unlink()

    @property
    def node(self) -> dict[str, Any]:
        told: dict[str, Any] = json.loads((self.folder / "bin" / "cluster.json").read_text())
        return told

    def gpus(self, state: Mapping[str, object]) -> None:
        """What FAKE_GPU_STATE says from now on."""
        (self.folder / "gpus.json").write_text(json.dumps(state))

    def process(self, text: str = WAIT, *argv: str, **environ: str) -> Child:
        """A process that runs until somebody ends it."""
        popen = subprocess.Popen(
            [*self._inside(), sys.executable, "-c", text, *argv],
            env={**{k: v for k, v in os.environ.items() if not k.startswith("SLURM")}, **environ},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.children.append(popen)
        assert popen.stdout is not None
        return Child(pid=int(popen.stdout.readline()), popen=popen)

    def guardian(self, mark: str) -> Child:
        """What looks like the guardian of a living host process."""
        return self.process(WAIT, "runner.host.leash", mark, "local", "5")

    def program(self, module: str, *argv: str, **environ: str) -> subprocess.CompletedProcess[str]:
        """A program of the agent, to its end."""
        return subprocess.run(
            [*self._inside(), sys.executable, "-m", f"runner.agent.{module}", *argv],
            env={**os.environ, **self.environ, **environ},
            capture_output=True,
            text=True,
            check=False,
        )

    def shell(self, line: str) -> None:
        """What the host's root types."""
        subprocess.run([*self._inside(), "sh", "-ec", line], check=True)

    def _inside(self) -> list[str]:
        children = Path(f"/proc/{self.first.pid}/task/{self.first.pid}/children").read_text().split()
        return ["nsenter", "--target", children[0], "--pid", "--mount"]

    def strangers(self) -> list[dict[str, str]]:
        """The log of what was ended."""
        log = self.run / "strangers.log"
        return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []

    def close(self) -> None:
        for each in (*self.children, self.first):
            each.kill()
            each.communicate()
