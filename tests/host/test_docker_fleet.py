"""Containers on a host of a fleet: on its network, under the names of the gang, with nothing of the host inside."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from runner.errors import DatasetError, PlanError
from runner.host import container_settings
from runner.host.docker_host import JOB_LABEL, LABEL, RUN_LABEL
from runner.host.job import Job
from runner.launch import Process
from tests.engines.project import wait_for
from tests.services.dockerd import DockerEngine

from .hosting import direct, job, local_host, printed, under_launcher
from .jobs import RUN, note_run

pytestmark = [pytest.mark.docker, pytest.mark.timeout(300)]

ADDRESSES = ("127.0.0.1", "10.77.9.9")
LOOK = "hostname; getent hosts node-0 node-1 | tr -s ' '; ls /sys/class/net | tr '\\n' ' '"


@pytest.fixture
def docker(docker_engine: DockerEngine) -> Iterator[DockerEngine]:
    """A Docker without containers, before the test and after it."""
    yield docker_engine
    if left := docker_engine.docker("ps", "-aq").split():
        docker_engine.docker("rm", "-f", *left)


def on_fleet(place: Path, *processes: Process, image: str, **others: Any) -> Job:
    """A job of the first of two nodes."""
    two: dict[str, Any] = {"hostnames": ("node-0", "node-1"), "addresses": ADDRESSES, "world_size": 2}
    given = {**two, "host_network": True}
    note_run(place)
    return job(place, *processes, image=image, **given | others)


@pytest.mark.parametrize("processes", [direct(LOOK), under_launcher(LOOK)], ids=["direct", "launched"])
def test_a_node_is_on_its_hosts_network_and_knows_all_nodes(
    processes: tuple[Process, ...], tmp_path: Path, docker: DockerEngine, base_image: str
) -> None:
    told = on_fleet(tmp_path, *processes, image=base_image)
    with local_host(tmp_path) as host:
        host.train(told)
        assert host.hear("exited")["code"] == 0
    name, *known, devices = printed(told)().splitlines()
    assert name == "node-0"
    assert known == ["127.0.0.1 node-0", "10.77.9.9 node-1"]
    assert set(devices.split()) == {name for _, name in socket.if_nameindex()}


def test_ranks_of_one_node_share_memory_and_ports_of_the_host(
    tmp_path: Path, docker: DockerEngine, base_image: str
) -> None:
    wait = "import os,time\nwhile not os.path.exists('/dev/shm/met'): time.sleep(0.02)"
    writer, reader = "echo met >/dev/shm/met", f'python3 -c "{wait}" && cat /dev/shm/met'
    bound = """
import os, socket
with socket.socket() as server:
    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    server.bind(("0.0.0.0", int(os.environ["PORT"])))
    server.listen()
    print("listens")
"""
    with local_host(tmp_path) as host:
        host.channel.send("ports", count=1)
        (port,) = host.hear("ports")["ports"]
        scripts = (writer, reader, f"PORT={port} python3 -c '{bound}'")
        told = on_fleet(tmp_path, *direct(*scripts), image=base_image)
        host.train(told)
        assert [host.hear("exited")["code"] for _ in range(3)] == [0, 0, 0]
    assert printed(told, 1)() == "met\n"
    assert printed(told, 2)() == "listens\n"


def test_isolated_nodes_are_not_put_on_the_network_of_their_hosts(tmp_path: Path) -> None:
    told = on_fleet(tmp_path, *direct("true"), image="x", isolated=True)
    with pytest.raises(PlanError, match="isolated"):
        container_settings.place(told)


def test_one_isolated_node_of_a_fleet_has_no_network(tmp_path: Path) -> None:
    told = on_fleet(tmp_path, *direct("true"), image="x", isolated=True, hostnames=("node-0",))
    assert container_settings.place(told)["network_mode"] == "none"


@pytest.mark.parametrize("path", ["/", "/run/docker.sock", "/var/run", "/etc/munge/munge.key", "/run/../run"])
def test_data_may_not_be_what_belongs_to_munge_slurm_or_docker(path: str) -> None:
    with pytest.raises(DatasetError, match=r"datasets\.x"):
        container_settings.data_volumes({"x": path})


def test_data_may_lie_anywhere_else(tmp_path: Path) -> None:
    assert container_settings.data_volumes({"x": str(tmp_path)}) == [f"{tmp_path}:/datasets/x:ro"]


def test_containers_carry_the_job_of_the_batch_system(tmp_path: Path) -> None:
    told = job(tmp_path, *direct("true"), image="x")
    assert container_settings.labels(told, {"SLURM_JOB_ID": "12"}) == {
        LABEL: told.mark,
        RUN_LABEL: RUN,
        JOB_LABEL: "12",
    }
    assert JOB_LABEL not in container_settings.labels(told, {})


def test_nothing_of_the_host_is_inside(
    tmp_path: Path, docker: DockerEngine, base_image: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither its environment, nor a socket of munge, Slurm or Docker, nor the files of its token."""
    for name in ("SLURM_JOB_ID", "SLURM_CONF", "MUNGE_SOCKET", "PUSHTRAIN_RUN", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "of-the-host")
    look = (
        "env; find / -xdev -type s 2>/dev/null; find /run /var/run /var/lib -name '*munge*' -o -name '*slurm*' "
        "-o -name '*docker*' 2>/dev/null; cut -d' ' -f2 /proc/mounts | sed 's/^/mount /'; echo looked"
    )
    told = on_fleet(tmp_path, *direct(look), image=base_image)
    with local_host(tmp_path) as host:
        host.train(told)
        assert host.hear("exited")["code"] == 0
        wait_for(lambda: "looked" in printed(told)(), what="all that it saw")
    seen = printed(told)()
    for word in ("of-the-host", "SLURM", "slurm", "munge", "docker.sock", "DOCKER_HOST", "AWS_"):
        assert word not in seen, seen
    mounted = {line.removeprefix("mount ") for line in seen.splitlines() if line.startswith("mount ")}
    docker_s = {"/etc/hosts", "/etc/hostname", "/etc/resolv.conf", "/usr/sbin/docker-init", "/"}
    assert {each for each in mounted - docker_s if not each.startswith(("/proc", "/sys", "/dev"))} == {
        "/workspace",
        "/pushtrain",
        "/pushtrain/ranks/0",
    }
