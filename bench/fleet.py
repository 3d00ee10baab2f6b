"""What a fleet costs: the engine slurm against Slurm by hand, on hosts of the lab.

python -m bench.fleet [--only start,images,lost,idle,queue,logs] [--pairs 5]

Root only, with what tests/services/packages installs. Hosts are namespaces of this machine, see tests/lab/README.md.

- start: from the command to the first line of rank 0, a gang of three hosts, image there; against `sbatch` of a script
  with `srun docker run` on the same three hosts.
- images: images a second of examples/tf-mnist-horovod, three hosts of one rank, against mpirun by hand over sshd in the
  same image, in turns: some six minutes for five pairs on two cores with nothing else to do, and anything else on them
  shows. An image with TensorFlow and Horovod is built first, the first time for some minutes more.
- lost: a host is switched off; until Slurm calls it down, and until rank 0 of the next attempt speaks.
- idle: memory and CPU of all processes of an agent on a host with nothing to do, against slurmd and munged alone.
- queue: submitting one run to 64 hosts while 0, 500 and 1,000 wait: the part of it that is not planning nor sbatch.
- logs: processor time of one reader that follows 64, 128 and 256 ranks, and whether a line is lost.
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
import tempfile
import time
from pathlib import Path

from bench.fleet_idle import bench_idle
from bench.fleet_images import bench_images
from bench.fleet_logs import bench_logs
from bench.fleet_queue import bench_queue
from bench.pairs import load, report
from bench.scale import until
from tests.lab import Lab
from tests.slurm.project import FleetProject, fleet_project, push_base

SPEAK = "import time; print('spoke', time.time(), flush=True)\n"
EPOCHS = 300
SPOKE = re.compile(r"spoke (\d+\.\d+)$", re.MULTILINE)


def shared_image(lab: Lab) -> str:
    """The tests' base image in the lab's registry, and on all hosts by its digest."""
    there = push_base(lab)
    for host in lab.hosts:
        host.docker("pull", "--quiet", there)
    return there


def spoke_at_s(text: str) -> float | None:
    """When the whole line of that moment was printed, by its own clock."""
    found = SPOKE.search(text)
    return float(found[1]) if found else None


def bench_start(lab: Lab, folder: Path, pairs: int) -> None:
    image = shared_image(lab)
    ours: list[float] = []
    by_hand: list[float] = []
    with fleet_project(lab, folder / "start", image) as project:
        project.write(SPEAK, resources={"nodes": 3})
        for number in range(pairs + 1):
            if number % 2:
                ours.append(_ours(lab, project))
            by_hand.append(_by_hand(lab, project.folder, image, number))
            if not number % 2:
                ours.append(_ours(lab, project))
    # The first of each warms up.
    report("submit to first line of rank 0, three hosts", ours[1:], by_hand[1:], wanted="at most +1000 ms")
    print(f"  {load()}", flush=True)


def _ours(lab: Lab, project: FleetProject) -> float:
    """Seconds from the command to rank 0's first line; returns once its job is over."""
    began_s = time.time()
    done = project.pushtrain("run", "--fresh", within_s=120)
    if done.code:
        raise SystemExit(done.output)
    _until_no_job(lab)
    return _first_line(project.log(project.run.id)) - began_s


def _by_hand(lab: Lab, folder: Path, image: str, number: int) -> float:
    """The same for a script of sbatch."""
    out = folder.parent / f"by-hand-{number}.out"
    mount = f"{folder}:/workspace"
    run = f"docker run --rm --network host -v {shlex.quote(mount)} -w /workspace {image} python3 train.py"
    began_s = time.time()
    script = f"#!/bin/sh\nsrun --label {run}\n"
    lab.head.run("sbatch", "-N3", "--ntasks-per-node=1", f"--output={out}", given=script)
    _until_no_job(lab)
    first = "\n".join(line for line in out.read_text().splitlines() if line.startswith("0:"))
    return _first_line(first) - began_s


def _until_no_job(lab: Lab) -> None:
    until(lambda: not lab.head.run("squeue", "-h").stdout.strip(), "the end of the job")


def _first_line(text: str) -> float:
    found = spoke_at_s(text)
    if found is None:
        raise SystemExit(f"no line of rank 0: {text}")
    return found


def bench_lost(lab: Lab, folder: Path, pairs: int) -> None:
    image = shared_image(lab)
    again: list[float] = []
    slurm: list[float] = []
    for number in range(pairs):
        lab.renew()
        with fleet_project(lab, folder / f"lost-{number}", image) as project:
            project.write(SPEAK + "hold()", resources={"nodes": 2})
            follower = project.start("run", "--fresh")
            project.until_prints("spoke")
            seen_s, spoke_s = _lost(lab, project)
            slurm.append(seen_s)
            again.append(spoke_s)
            project.pushtrain("cancel", "last", "--kill")
            follower.finish()
        print(f"  {spoke_s:.1f} s, of which Slurm {seen_s:.1f} s; {load()}", flush=True)
    report(
        "host lost to gang running again, against Slurm's detection", again, slurm, wanted="at most +5000 ms"
    )


def _lost(lab: Lab, project: FleetProject) -> tuple[float, float]:
    """Seconds from the loss of a host until Slurm says so, and until rank 0 speaks again."""
    away = (
        "h0",
        project.batch_host().name,
    )  # Slurm's own head, and the supervisor's: their loss is another matter.
    lost = next((name for name in project.reservation(project.run.id) if name not in away), "h1")
    began_s = time.time()
    lab.host(lost).off()
    until(lambda: "DOWN" in project.slurm("scontrol", "show", "node", lost), "Slurm's word of it")
    seen_s = time.time()
    project.until_attempt(2)
    until(lambda: spoke_at_s(project.log(project.run.id, attempt=project.run.attempt)), "rank 0's line")
    return seen_s - began_s, _first_line(project.log(project.run.id, attempt=project.run.attempt)) - began_s


def bench_horovod(lab: Lab, folder: Path, pairs: int) -> None:
    base = push_base(lab)
    with fleet_project(lab, folder / "images", base) as project:
        project.environment = {"base": base, "pip": "requirements.txt"}
        bench_images(lab, project, pairs=pairs, epochs=EPOCHS)


ON_THREE = {"start": bench_start, "images": bench_horovod, "lost": bench_lost}
"""Parts that share a lab of three hosts."""


def on_three_hosts(folder: Path, names: list[str], pairs: int) -> None:
    lab = Lab.up(folder / "lab", hosts=3)
    try:
        lab.ready()
        for name in names:
            ON_THREE[name](lab, folder, pairs)
    finally:
        lab.down()


def on_many_hosts(folder: Path, *, hosts: int, jobs: int, times: int) -> None:
    lab = Lab.up(folder / "lab", hosts=hosts, docker=False)
    try:
        lab.ready()
        with fleet_project(lab, folder / "queue", "") as project:
            bench_queue(lab, project, jobs=jobs, times=times)
    finally:
        lab.down()


def main() -> None:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default="start,images,lost,idle,queue,logs", help="some of these parts")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument(
        "--seconds",
        type=float,
        default=60,
        help="for which idle agents are watched; a host looks at its health once in 60",
    )
    parser.add_argument("--hosts", type=int, default=64, help="of the part `queue`")
    parser.add_argument("--jobs", type=int, default=1000, help="that wait, of the part `queue`")
    parser.add_argument("--ranks", default="64,128,256", help="of the part `logs`")
    asked = parser.parse_args()
    if os.geteuid() != 0:
        raise SystemExit("bench.fleet makes hosts, which needs root")
    chosen = asked.only.split(",")
    print(load())
    with tempfile.TemporaryDirectory(prefix="bench-fleet-") as place:
        folder = Path(place)
        if small := [name for name in chosen if name in ON_THREE]:
            on_three_hosts(folder / "three", small, asked.pairs)
        if "idle" in chosen:
            bench_idle(folder / "idle", seconds=asked.seconds)
        if "queue" in chosen:
            on_many_hosts(folder / "many", hosts=asked.hosts, jobs=asked.jobs, times=asked.pairs)
        for ranks in map(int, asked.ranks.split(",") if "logs" in chosen else ()):
            bench_logs(folder / f"logs-{ranks}", ranks=ranks)


if __name__ == "__main__":
    main()
