"""What a fleet costs: the engine slurm against Slurm by hand, on hosts of the lab.

python -m bench.fleet [--only start,lost,idle,queue,logs] [--pairs 5] [--hosts 64] [--jobs 1000] [--ranks 64,128,256]

Root only, with what tests/services/packages installs. Hosts are namespaces of this machine, see tests/lab/README.md.

- start: from the command to the first line of rank 0, a gang of three hosts, image there; against `sbatch` of a script
  with `srun docker run` on the same three hosts.
- lost: a host is switched off; until Slurm calls it down, and until rank 0 of the next attempt speaks.
- idle: memory and CPU of all processes of an agent on a host with nothing to do, against slurmd and munged alone.
- queue: submitting one run while many wait, on many hosts: the whole command, and the part of it that is not sbatch.
- logs: processor time of one reader that follows as many ranks as that.
"""

from __future__ import annotations

import argparse
import os
import shlex
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.pairs import load, report
from bench.scale import until
from runner import runs
from tests.lab import Lab
from tests.slurm.project import FleetProject

HOME = "/var/lib/pushtrain-home"
SPEAK = "import time; print('spoke', time.time(), flush=True)\n"
IDLE_S = 60.0


@contextmanager
def fleet(lab: Lab, folder: Path, image: str) -> Iterator[FleetProject]:
    """A repository that is trained on the lab."""
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


def shared_image(lab: Lab) -> str:
    """The tests' base image in the lab's registry, and on all hosts by its digest."""
    here, there = lab.base_image(), f"{lab.registry.address}/base:1"
    lab.head.docker("tag", here, there)
    lab.head.docker("push", "--quiet", there)
    for host in lab.hosts:
        host.docker("pull", "--quiet", there)
    return there


def spoke_at_s(text: str) -> float | None:
    """When the line of that moment was printed, by its own clock."""
    words = text.split()
    return float(words[words.index("spoke") + 1]) if "spoke" in words else None


def bench_start(lab: Lab, folder: Path, pairs: int) -> None:
    image = shared_image(lab)
    with fleet(lab, folder / "start", image) as project:
        project.write(SPEAK, resources={"nodes": 3})
        ours, by_hand = [], []
        for number in range(pairs + 1):
            began_s = time.time()
            done = project.pushtrain("run", "--fresh", within_s=60)
            assert done.code == 0, done.output
            first_s = spoke_at_s(project.log(project.run.id))
            assert first_s is not None
            theirs = _by_hand(lab, project.folder, image, number)
            if number:  # The first of each warms up.
                ours.append(first_s - began_s)
                by_hand.append(theirs)
    report("submit to first line of rank 0, three hosts", ours, by_hand, wanted="at most +1000 ms")


def _by_hand(lab: Lab, folder: Path, image: str, number: int) -> float:
    """Seconds to the first line on the batch host; returns once the job is over."""
    out = folder.parent / f"by-hand-{number}.out"
    mount = f"{folder}:/workspace"
    run = f"docker run --rm --network host -v {shlex.quote(mount)} -w /workspace {image} python3 train.py"
    script = f"#!/bin/sh\nsrun {run}\n"
    began_s = time.time()
    lab.head.run("sbatch", "-N3", "--ntasks-per-node=1", f"--output={out}", given=script)
    until(lambda: out.exists() and spoke_at_s(out.read_text()), "a line by hand")
    first_s = spoke_at_s(out.read_text())
    until(lambda: not lab.head.run("squeue", "-h").stdout.strip(), "the end by hand")
    assert first_s is not None
    return first_s - began_s


def bench_lost(lab: Lab, folder: Path, pairs: int) -> None:
    image = shared_image(lab)
    again, slurm = [], []
    for number in range(pairs):
        lab.renew()
        lab.ready()
        with fleet(lab, folder / f"lost-{number}", image) as project:
            project.write(SPEAK + "hold()", resources={"nodes": 2})
            follower = project.start("run", "--fresh")
            project.until_prints("spoke")
            head = project.batch_host().name
            lost = next(name for name in project.reservation(project.run.id) if name != head)
            if lost == "h0":
                project.pushtrain("cancel", "last", "--kill")
                continue
            began_s = time.time()
            lab.host(lost).off()
            until(lambda name=lost: "DOWN" in project.slurm("scontrol", "show", "node", name), "Slurm sees it")
            slurm.append(time.time() - began_s)
            project.until_attempt(2)
            second_s = spoke_at_s(project.log(project.run.id, attempt=project.run.attempt))
            assert second_s is not None
            again.append(second_s - began_s)
            project.pushtrain("cancel", "last", "--kill")
            follower.finish()
    report("host lost to gang running again, against Slurm's detection", again, slurm, wanted="at most +5000 ms")


def bench_queue(folder: Path, *, hosts: int, jobs: int) -> None:
    """Submitting while 0, jobs/2 and jobs runs wait."""
    lab = Lab.up(folder / "lab", hosts=hosts, gpus=2, docker=False)
    try:
        lab.ready()
        project = FleetProject(
            folder=folder / "queue" / "repository",
            home=folder / "queue" / "home",
            engine="slurm",
            environment={},
            store_uri=str(folder / "queue" / "store"),
            environ={"PUSHTRAIN_HOME": HOME},
            lab=lab,
        )
        project.folder.parent.mkdir()
        filler = "#!/bin/sh\nsleep 3600\n"
        for waiting in (0, jobs // 2, jobs):
            there = len(lab.head.run("squeue", "-h", "-o", "%i").stdout.split())
            if waiting > there:
                spec = f"--array=1-{waiting - there}"
                lab.head.run("sbatch", "-N4", "--gres=gpu:2", "--output=/dev/null", spec, given=filler)
            alone = statistics.median(_sbatch_alone(lab) for _ in range(5))
            ours = statistics.median(_submitted(project, folder, number) for number in range(5))
            print(
                f"{hosts} hosts, {waiting} jobs in the queue: submitting a run {ours * 1000:.0f} ms, "
                f"sbatch alone {alone * 1000:.0f} ms: our part {(ours - alone) * 1000:.0f} ms (wanted below 300 ms)"
            )
    finally:
        lab.down()


def _sbatch_alone(lab: Lab) -> float:
    began_s = time.perf_counter()
    lab.head.run("sbatch", "-N4", "--gres=gpu:2", "--output=/dev/null", given="#!/bin/sh\nsleep 1\n")
    return time.perf_counter() - began_s


def _submitted(project: FleetProject, folder: Path, number: int) -> float:
    """Seconds that the engine takes to put one planned run into the queue, Python and all."""
    from tests.slurm.planned import put

    run_id = put(project, number)
    began_s = time.perf_counter()
    project.host("h0").run(
        "python", "-m", "bench.submit", run_id, project.store_uri, folder=Path.cwd(), environ=dict(project.environ)
    )
    del folder
    return time.perf_counter() - began_s


PARTS: dict[str, Callable[[Lab, Path, int], None]] = {"start": bench_start, "lost": bench_lost}


def main() -> None:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(prog="bench.fleet", description=__doc__)
    parser.add_argument("--only", default="start,lost,idle,queue,logs")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--hosts", type=int, default=64)
    parser.add_argument("--jobs", type=int, default=1000)
    asked = parser.parse_args()
    print(load())
    with tempfile.TemporaryDirectory(prefix="bench-fleet-") as place:
        folder = Path(place)
        chosen = asked.only.split(",")
        if set(chosen) & set(PARTS):
            lab = Lab.up(folder / "lab-small", hosts=3)
            try:
                lab.ready()
                for name in chosen:
                    if name in PARTS:
                        PARTS[name](lab, folder, asked.pairs)
            finally:
                lab.down()
        if "queue" in chosen:
            bench_queue(folder / "big", hosts=asked.hosts, jobs=asked.jobs)


if __name__ == "__main__":
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    main()
