"""Images a second of Horovod on three hosts of the lab: by us, and by `mpirun` by hand over sshd, in turns."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

from bench import by_hand, images
from bench.scale import until
from tests.fixtures.docker import cache_folder
from tests.lab import Lab
from tests.slurm.project import FleetProject

WITHIN_S = 900.0
PORT = 2222
NAME = "bench-mpi"
# All hosts share this machine's cores, which nobody on them can know: both are told that they are not alone.
YIELD = {"OMPI_MCA_mpi_yield_when_idle": "1"}


def bench_images(lab: Lab, project: FleetProject, *, pairs: int, epochs: int) -> None:
    """Print the ratio of each pair, and their median. First an image is built, which may take minutes."""
    _keep_wheels(lab, project)
    os.environ["DOCKER_HOST"] = lab.head.engine.host
    _train(project, epochs=1)
    image = project.run.environment
    # A build asks this registry by TLS for what is not here, and any of the hosts may have made it.
    lab.head.docker("pull", "--quiet", image)
    ssh = by_hand.ssh_image(image, project.folder.parent / "ssh")
    shared = f"{lab.registry.address}/bench-ssh:1"
    lab.head.docker("tag", ssh, shared)
    lab.head.docker("push", "--quiet", shared)

    def ours() -> images.Epochs:
        _train(project, epochs=epochs)
        return images.read(project.log(project.run.id))

    def theirs() -> images.Epochs:
        with _containers(lab, shared, project.folder):
            return images.read(_mpirun(lab, *images.command(epochs)))

    images.in_turns("tf-mnist-horovod, 3 hosts of one rank", ours, theirs, pairs=pairs)


def _train(project: FleetProject, *, epochs: int) -> None:
    files = images.source()
    project.folder.mkdir(exist_ok=True)
    for name, text in files.items():
        (project.folder / name).write_text(text)
    project.write(
        files["train.py"],
        run="python rate.py",
        env={**images.variables(epochs), **YIELD},
        resources={"nodes": 3},
        distribution={"type": "mpi", "processes_per_node": 1},
    )
    done = project.pushtrain("run", "--fresh", within_s=WITHIN_S)
    if done.code:
        raise SystemExit(f"{done.output}\n{project.told()}")


def _keep_wheels(lab: Lab, project: FleetProject) -> None:
    """Horovod's wheel is kept by its content beside the environments of tests: it takes minutes to make."""
    envs = cache_folder() / "envs"
    envs.mkdir(parents=True, exist_ok=True)
    home = project.environ["PUSHTRAIN_HOME"]
    for host in lab.hosts:
        host.run("mkdir", "-p", home)
        host.run("ln", "-sfn", str(envs), f"{home}/envs")


@contextmanager
def _containers(lab: Lab, image: str, work: Path) -> Iterator[None]:
    """One with sshd on each host, on the host's network as ours are."""
    with ExitStack() as stack:
        for host in lab.hosts:
            stack.callback(host.docker, "rm", "-f", NAME)
            options = ("--network", "host", "--shm-size", "1g", "-v", f"{work}:/workspace:ro")
            host.docker("run", "-d", "--name", NAME, *options, image, "/usr/sbin/sshd", "-D", "-p", str(PORT))
        for host in lab.hosts:
            until(partial(_answers, host.address), f"sshd on {host.name}")
        yield


def _answers(address: str) -> bool:
    try:
        socket.create_connection((address, PORT), timeout=1).close()
    except OSError:
        return False
    return True


def _mpirun(lab: Lab, *command: str) -> str:
    """What it prints, one rank on each host."""
    network = f"{lab.plan.network}.0/24"
    settings = (network if word == "eth0" else word for word in by_hand.SETTINGS)
    told = ("-mca", "plm_rsh_args", f"-p {PORT}", *images.YIELD)
    hosts = ",".join(f"{host.address}:1" for host in lab.hosts)
    return lab.head.docker("exec", NAME, "mpirun", *settings, *told, "--host", hosts, *command)
