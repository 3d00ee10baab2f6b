"""What it costs to put a run into the queue of many hosts in which many runs wait already, beside sbatch alone.

Hosts are namespaces with a slurmd each. Those that wait are jobs of their own as runs are, each with its run folder.
Our part of a submission is the whole command without what `pushtrain plan` and sbatch take by themselves. A run of a
group (`concurrency`) also asks which of those that wait are of its group: what the engine alone takes for that is told
beside, sbatch included.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable

from bench.pairs import load
from runner import runs
from runner.store import open_store
from tests.lab import Lab
from tests.slurm.project import HOME, FleetProject, push_base

WANTS = ("-N4", "--gres=gpu:2", "--output=/dev/null")
SLEEP = "#!/bin/sh\nsleep 3600\n"
# Told by its arguments: a store, the id of a run, a group or nothing, how many; prints the ids and the seconds.
ENTER = """\
import os, sys, time
from dataclasses import replace
from pathlib import Path
from runner import engines, entry, plan, runs
from runner.store import open_store
uri, like, group, many, submits = sys.argv[1:]
store = open_store(uri)
made = plan.from_json(store.read(runs.key(like, "plan.json")))
made = replace(made, group=group or None)
text = plan.to_json(made).encode()
engine = engines.load("slurm", home=Path(os.environ["PUSHTRAIN_HOME"]), store=uri)
for _ in range(int(many)):
    run_id = runs.new_id(now_s=time.time())
    store.write(runs.key(run_id, "plan.json"), text)
    began = time.perf_counter()
    engine.submit(run_id) if submits else entry.enter(store, made, run_id)
    print(run_id, time.perf_counter() - began)
"""


def bench_queue(lab: Lab, project: FleetProject, *, jobs: int, times: int) -> None:
    """Print it for an empty queue, half of it, and all."""
    lab.head.start("dockerd")
    project.environment = {"image": push_base(lab)}
    project.write("pass", resources={"nodes": 4, "gpu": 2})
    _told(project, "run", "--detach", "--fresh")  # The first warms up.
    like = project.run.id
    for waiting in (0, jobs // 2, jobs):
        _fill(lab, project, like, waiting)
        _measure(lab, project, like, times)


def _measure(lab: Lab, project: FleetProject, like: str, times: int) -> None:
    whole, planned, alone = [], [], []
    waiting = len(_jobs(lab))
    for _ in range(times):
        whole.append(_seconds(lambda: _told(project, "run", "--detach", "--fresh")))
        planned.append(_seconds(lambda: _told(project, "plan")))
        alone.append(_seconds(lambda: lab.head.run("sbatch", *WANTS, given=SLEEP)))
    ours = [a - b - c for a, b, c in zip(whole, planned, alone, strict=True)]
    plain, grouped = (
        statistics.median(took for _, took in _entered(lab, project, like, group, times, submits=True))
        for group in ("", "another")
    )
    ms = [f"{statistics.median(each) * 1000:.0f}" for each in (ours, whole, planned, alone)]
    print(
        f"{len(lab.hosts)} hosts, {waiting} jobs in the queue: our part of submitting a run {ms[0]} ms "
        f"(wanted below 300 ms, flat): the command {ms[1]} ms, `pushtrain plan` {ms[2]} ms, sbatch {ms[3]} ms; "
        f"in the engine {plain * 1000:.0f} ms, of a group {grouped * 1000:.0f} ms ({times} times; {load()})",
        flush=True,
    )


def _fill(lab: Lab, project: FleetProject, like: str, waiting: int) -> None:
    """Jobs that are called as runs are, and their runs, until so many are there."""
    lacking = waiting - len(_jobs(lab))
    if lacking <= 0:
        return
    ids = [each for each, _ in _entered(lab, project, like, "group", lacking, submits=False)]
    script = project.folder.parent / "filler"
    script.write_text(SLEEP)
    comment = f"--comment=pushtrain {runs.load(open_store(project.store_uri), like).name} -"
    lines = " ".join(ids)
    each = f"sbatch {' '.join(WANTS)} --job-name=$id '{comment}' {script} >/dev/null"
    lab.head.run("sh", "-ec", f"for id in {lines}; do {each}; done", timeout_s=300)


def _entered(
    lab: Lab, project: FleetProject, like: str, group: str, many: int, *, submits: bool
) -> list[tuple[str, float]]:
    told = (project.store_uri, like, group, str(many), "yes" if submits else "")
    environ = {"PUSHTRAIN_HOME": HOME}
    done = lab.head.run(sys.executable, "-c", ENTER, *told, environ=environ, timeout_s=300)
    return [(line.split()[0], float(line.split()[1])) for line in done.stdout.splitlines()]


def _jobs(lab: Lab) -> list[str]:
    return lab.head.run("squeue", "-h", "-o", "%i").stdout.split()


def _told(project: FleetProject, *words: str) -> None:
    done = project.pushtrain(*words)
    if done.code:
        raise SystemExit(done.output)


def _seconds(do: Callable[[], object]) -> float:
    began_s = time.perf_counter()
    do()
    return time.perf_counter() - began_s
