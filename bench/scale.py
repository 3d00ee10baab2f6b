"""What ranks cost the processes that look after them, and what following a run costs, for 8 to 64 ranks.

python -m bench.scale [--engine local | docker] [--kinds none,mpi] [--ranks 8,16,32,64]

Ranks stand on 8 nodes; each prints some lines and waits until it was looked at. `following` is the processor time that
`pushtrain logs --follow` takes for as many lines of each rank. With docker a daemon of its own is started, which needs
root and what tests/services/packages installs.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.gangs import PUSHTRAIN, Desk
from bench.pairs import load
from runner import runs
from runner.store import open_store
from tests.engines.project import Project
from tests.fixtures.docker import cache_folder, load_base_image
from tests.services.dockerd import docker_daemon

NODES, LINES, FOLLOWED_S = 8, 200, 5.0
WITHIN_S = 300.0
SAY = f"""\
i=0
while [ $i -lt {LINES} ]; do echo "rank $PUSHTRAIN_RANK line $i"; i=$((i + 1)); done
while [ ! -e go ]; do sleep 0.5; done
"""


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What a process has: threads, open files, its own memory in MiB, processor seconds so far."""

    threads: int
    files: int
    memory_mib: float
    cpu_s: float

    @classmethod
    def of(cls, pid: int) -> Cost:
        place = Path("/proc") / str(pid)
        fields = (place / "stat").read_text().rpartition(")")[2].split()
        ticks = int(fields[11]) + int(fields[12])
        own = next(line for line in (place / "status").read_text().splitlines() if line.startswith("RssAnon"))
        return cls(
            threads=len(list((place / "task").iterdir())),
            files=len(list((place / "fd").iterdir())),
            memory_mib=int(own.split()[1]) / 1024,
            cpu_s=ticks / os.sysconf("SC_CLK_TCK"),
        )

    def __str__(self) -> str:
        return f"{self.threads} threads, {self.files} files, {self.memory_mib:.0f} MiB, {self.cpu_s:.2f} s of CPU"


def until(condition: Callable[[], Any], what: str) -> Any:
    """What `condition` returns as soon as it is true."""
    deadline_s = time.monotonic() + WITHIN_S
    while not (found := condition()):
        if time.monotonic() > deadline_s:
            raise SystemExit(f"not within {WITHIN_S:g} s: {what}")
        time.sleep(0.05)
    return found


def measure(desk: Desk, kind: str, environment: dict[str, str], *, ranks: int) -> None:
    """One gang: print what it costs."""
    repository = desk.repository(
        f"{kind}-{ranks}",
        {},
        run=SAY,
        environment=environment,
        resources={"nodes": NODES},
        distribution={"type": kind, "processes_per_node": ranks // NODES},
    )
    home = desk.folder / "home"
    project = Project(
        folder=repository, home=home, engine=desk.engine, environment={}, store_uri=str(home / "store")
    )
    desk.told("run", "--detach", str(repository))
    run_id = project.run_ids[-1]
    store = open_store(str(home / "store"))
    last = f"line {LINES - 1}\n"
    streams = [runs.log_key(run_id, attempt=1, rank=rank) for rank in range(ranks)]
    until(lambda: all(last.encode() in store.tail(key, offset=0) for key in streams), "a line of all ranks")
    spoken_s = time.time() - runs.load(store, run_id).attempts[-1].started_at_s
    (supervisor,), hosts = project.processes("runner.supervise"), project.processes("runner.host")
    costs = [Cost.of(pid) for pid in hosts]
    print(
        f"{desk.engine}, {kind}, {ranks} ranks on {NODES} nodes: "
        f"all spoke {spoken_s:.1f} s after the gang was begun; {load()}"
    )
    print(f"  supervisor: {Cost.of(supervisor)}")
    print(f"  largest of {len(hosts)} hosts: {max(costs, key=lambda cost: cost.threads)}")
    print(f"  following: {following(desk)}", flush=True)
    before_s = time.time()
    for node in range(NODES):
        project.let_go(node=node)
    until(lambda: runs.load(store, run_id).state.ended, "the end of the run")
    took_s, state = time.time() - before_s, runs.load(store, run_id).state
    print(f"  {state} {took_s:.1f} s after the ranks were let go, which look twice a second", flush=True)


def following(desk: Desk) -> str:
    """The processor seconds of a follower: for what is there, and while nothing new comes."""
    child = subprocess.Popen(
        (PUSHTRAIN, "logs", "--follow", "last"), env={**os.environ, **desk.env}, stdout=subprocess.DEVNULL
    )
    time.sleep(FOLLOWED_S)
    first = Cost.of(child.pid)
    time.sleep(FOLLOWED_S)
    second = Cost.of(child.pid)
    child.terminate()
    child.wait()
    idle = (second.cpu_s - first.cpu_s) / FOLLOWED_S
    return f"{first.cpu_s:.2f} s of CPU for all lines, then {idle * 100:.1f} % of a CPU while nothing comes"


def main() -> None:
    """Run the benchmarks."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--engine", choices=("local", "docker"), default="local")
    parser.add_argument("--kinds", default="none,mpi")
    parser.add_argument("--ranks", default="8,16,32,64", help=f"multiples of {NODES}")
    chosen = parser.parse_args()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        environment: dict[str, str] = {}
        if chosen.engine == "docker":
            engine = stack.enter_context(docker_daemon(cache_folder()))
            os.environ["DOCKER_HOST"] = engine.host
            environment = {"base": load_base_image(engine)}
        desk = Desk(folder=folder, engine=chosen.engine)
        for kind in chosen.kinds.split(","):
            for ranks in map(int, chosen.ranks.split(",")):
                measure(desk, kind, environment, ranks=ranks)


if __name__ == "__main__":
    main()
