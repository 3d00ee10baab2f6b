"""What a gang costs on the engine docker: against containers with sshd, `mpirun` and `docker run` by hand.

python -m bench.distributed [--pairs 5] [--only launch,start,images,lines] [--epochs 200]

A Docker daemon of its own is started, so this needs root and what tests/services/packages installs.

- launch: mpirun of 4 ranks on 2 nodes, from when a gang is begun to the first line of rank 3 by its own clock. By hand
  that is a network, two containers with sshd in the same image, and mpirun once both answer. Then mpirun alone, in
  containers that are there: by our agent, by ssh.
- start: four tasks with TF_CONFIG on four nodes, from the command to the last one's line; against four `docker run`
  started at once, without a network that they would need to meet.
- images: images a second of examples/tf-mnist-horovod, two nodes of one rank, against mpirun by hand in the same image,
  in turns. An image with TensorFlow and Horovod is built first, which may take minutes.
- lines: how late a line is on the terminal, and whether any is lost at 20,000 lines a second.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from bench import by_hand
from bench.gangs import PUSHTRAIN, Desk, line_at_s
from bench.images import bench_images
from bench.pairs import load, report
from tests.fixtures.docker import cache_folder, load_base_image
from tests.services.dockerd import docker_daemon

MPI = {"resources": {"nodes": 2}, "distribution": {"type": "mpi", "processes_per_node": 2}}
SAY = 'echo "here ${OMPI_COMM_WORLD_RANK:-$PUSHTRAIN_RANK} $(date +%s.%N)"'
RATES = (20, 20_000)
LINES_S = 10

# Rank 0 starts a gang of its own, again and again: mpirun is told by its environment that it is within another.
LAUNCH_PY = """\
import os, subprocess, sys, time
agent, hosts, times = sys.argv[1], sys.argv[2].split(","), int(sys.argv[3])
if os.environ.get("OMPI_COMM_WORLD_RANK", "0") != "0":
    sys.exit()
inside = ("OMPI_", "PMIX_", "ORTE_", "PRTE_", "HYDRA_")
env = {name: value for name, value in os.environ.items() if not name.startswith(inside)}
kept = [name for name in os.environ if name.startswith(("OMPI_MCA_orte_tmpdir", "OMPI_MCA_btl_vader_backing"))]
env |= {name: os.environ[name] for name in kept}
env |= {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
say = 'test "$OMPI_COMM_WORLD_RANK" = 3 && echo "here 3 $(date +%s.%N)"; true'
for _ in range(times):
    began = time.time()
    argv = ["mpirun", "--host", ",".join(host + ":2" for host in hosts), "-mca", "plm_rsh_agent", agent,
            "-mca", "btl_tcp_if_include", "eth0", "-mca", "oob_tcp_if_include", "eth0", "sh", "-c", say]
    done = subprocess.run(argv, env=env, capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stdout + done.stderr)
    print("took", float(done.stdout.split()[2]) - began, flush=True)
"""

LINES_PY = """\
import sys, time
rate, seconds = float(sys.argv[1]), float(sys.argv[2])
began, number, total = time.time(), 0, int(rate * seconds)
while number < total:
    due = min(total, int((time.time() - began) * rate) + 1)
    for number in range(number, due):
        sys.stdout.write(f"line {number} {time.time():.6f} of what a training prints\\n")
    number = due
    sys.stdout.flush()
    time.sleep(max(0.002, began + number / rate - time.time()))
"""
LINE = re.compile(rb"line (\d+) (\d+\.\d+) of")


@dataclass(frozen=True, kw_only=True)
class Bench:
    """Where things are measured, in how many pairs."""

    desk: Desk
    image: str
    pairs: int
    epochs: int


def in_turns(
    pairs: int, ours: Callable[[], Sequence[float]], theirs: Callable[[], Sequence[float]]
) -> tuple[list[Sequence[float]], list[Sequence[float]]]:
    """What both measured, each first in every other pair."""
    found: tuple[list[Sequence[float]], list[Sequence[float]]] = [], []
    for turn in range(pairs):
        sides = [(found[0], ours), (found[1], theirs)]
        for kept, measure in sides if turn % 2 else reversed(sides):
            kept.append(measure())
    return found


def bench_launch(bench: Bench) -> None:
    """The first line of rank 3 of 4, and mpirun alone."""
    desk, environment = bench.desk, {"base": bench.image}
    said = desk.repository("say", {}, run=SAY, environment=environment, **MPI)
    image = desk.train(said).run["environment"]
    ssh = by_hand.ssh_image(image, desk.folder / "ssh")

    def ours() -> tuple[float, float]:
        trained = desk.train(said)
        at_s = trained.line_at_s(3)
        return at_s - trained.started_at_s, at_s - trained.asked_at_s

    def theirs() -> tuple[float]:
        began_s = time.time()
        with by_hand.nodes(ssh) as nodes:
            _, printed = nodes.mpirun("sh", "-c", SAY, per_node=2)
            return (line_at_s(printed, 3) - began_s,)

    a, b = in_turns(bench.pairs, ours, theirs)
    hand = [each[0] for each in b]
    report(
        "gang begun to rank 3's line, against sshd", [each[0] for each in a], hand, wanted="ratio at most 1"
    )
    report("command typed to rank 3's line, against sshd", [each[1] for each in a], hand, wanted="nothing")
    _bench_mpirun(bench, ssh)


def _bench_mpirun(bench: Bench, ssh: str) -> None:
    times = max(5, bench.pairs)
    ours = bench.desk.repository(
        "launch",
        {"launch.py": LAUNCH_PY},
        run=f'python3 launch.py pushtrain-agent "$PUSHTRAIN_NODE_ADDRESSES" {times}',
        environment={"base": bench.image},
        **MPI,
    )

    def agent() -> tuple[float, ...]:
        return took(bench.desk.train(ours).logs[0])

    def by_ssh() -> tuple[float, ...]:
        with by_hand.nodes(ssh, work=ours) as nodes:
            nodes.mpirun("true", per_node=2)  # Both answer.
            return took(nodes.first("python3", "launch.py", "ssh", ",".join(nodes.names), str(times)))

    a, b = in_turns(2, agent, by_ssh)
    flat = [[value for each in found for value in each] for found in (a, b)]
    report("mpirun to rank 3's line, agent against ssh", *flat, wanted="ratio at most 1")
    print(f"  {load()}", flush=True)


def took(printed: str) -> tuple[float, ...]:
    found = tuple(float(line.split()[1]) for line in printed.splitlines() if line.startswith("took "))
    if not found:
        raise SystemExit(printed)
    return found


def bench_start(bench: Bench) -> None:
    """Four tasks of TF_CONFIG."""
    desk = bench.desk
    say = 'echo "here $PUSHTRAIN_RANK $(date +%s.%N)"; test -n "$TF_CONFIG"'
    gang = desk.repository(
        "tasks",
        {},
        run=say,
        environment={"image": bench.image},
        resources={"nodes": 4},
        distribution={"type": "tensorflow", "workers": 4},
    )

    def ours() -> tuple[float, float]:
        trained = desk.train(gang)
        last_s = max(trained.line_at_s(rank) for rank in range(4))
        return last_s - trained.asked_at_s, last_s - trained.started_at_s

    def theirs() -> tuple[float]:
        began_s = time.time()
        options = ("--rm", "-e", "TF_CONFIG={}")
        told = by_hand.together(
            [("run", *options, "-e", f"PUSHTRAIN_RANK={n}", bench.image, "sh", "-c", say) for n in range(4)]
        )
        return (max(line_at_s(text, rank) for rank, text in enumerate(told)) - began_s,)

    ours()
    a, b = in_turns(bench.pairs, ours, theirs)
    hand = [each[0] for each in b]
    name = "4 nodes with TF_CONFIG, {} to the last one's line, against docker run"
    report(name.format("command typed"), [each[0] for each in a], hand, wanted="at most +1500 ms")
    report(name.format("gang begun"), [each[1] for each in a], hand, wanted="nothing")
    print(f"  {load()}", flush=True)


def bench_horovod(bench: Bench) -> None:
    """Images a second of Horovod."""
    bench_images(bench.desk, bench.image, pairs=bench.pairs, epochs=bench.epochs)


def bench_lines(bench: Bench) -> None:
    """How late lines are, and whether all come."""
    for engine, environment in (("local", {}), ("docker", {"image": bench.image})):
        desk = Desk(folder=bench.desk.folder / f"lines-{engine}", engine=engine)
        for per_s in RATES:
            gang = desk.repository(
                f"lines-{per_s}",
                {"lines.py": LINES_PY},
                run=f"python3 lines.py {per_s} {LINES_S}",
                environment=environment,
            )
            _follow(desk, gang, f"pushtrain run, {engine}", per_s)
            subprocess.run(
                (PUSHTRAIN, "run", "-d", gang),
                env={**os.environ, **desk.env},
                check=True,
                capture_output=True,
            )
            _follow(desk, None, f"pushtrain logs --follow, {engine}", per_s)


def _follow(desk: Desk, gang: Path | None, name: str, per_s: int) -> None:
    words = ("run", str(gang)) if gang is not None else ("logs", "--follow", "last")
    numbers, late_s = [], []
    child = subprocess.Popen(
        (PUSHTRAIN, *words), env={**os.environ, **desk.env}, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    assert child.stdout is not None
    for text in child.stdout:
        if match := LINE.search(text):
            late_s.append(time.time() - float(match[2]))
            numbers.append(int(match[1]))
    child.wait()
    whole = "all in order" if numbers == list(range(per_s * LINES_S)) else f"LOST: {len(numbers)} came"
    late_s.sort()
    median, most, last = (late_s[int((len(late_s) - 1) * part)] * 1000 for part in (0.5, 0.95, 1))
    print(
        f"{name}, {per_s} lines a second: {whole}, median {median:.0f} ms late, 95 % within {most:.0f} ms, "
        f"all within {last:.0f} ms (wanted under 100 ms; {load()})",
        flush=True,
    )


PARTS = {"launch": bench_launch, "start": bench_start, "lines": bench_lines, "images": bench_horovod}


def main() -> None:
    """Run the benchmarks."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=200, help="of each training whose images are counted")
    parser.add_argument("--only", default=",".join(PARTS), help="some of these parts")
    chosen = parser.parse_args()
    if os.geteuid() != 0:
        raise SystemExit("bench.distributed starts a Docker daemon of its own, which needs root")
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        engine = stack.enter_context(docker_daemon(cache_folder()))
        os.environ["DOCKER_HOST"] = engine.host
        image = load_base_image(engine)
        _keep_wheels(folder / "docker" / "home")
        desk = Desk(folder=folder / "docker", engine="docker")
        bench = Bench(desk=desk, image=image, pairs=chosen.pairs, epochs=chosen.epochs)
        for part in chosen.only.split(","):
            PARTS[part](bench)


def _keep_wheels(home: Path) -> None:
    """Horovod's wheel is kept by its content beside the environments of tests, which take minutes to make."""
    envs = cache_folder() / "envs"
    envs.mkdir(parents=True, exist_ok=True)
    home.mkdir(parents=True)
    (home / "envs").symlink_to(envs)


if __name__ == "__main__":
    main()
