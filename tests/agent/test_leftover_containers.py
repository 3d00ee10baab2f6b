"""Containers of jobs that are over are removed with a real Docker, with their networks; others stay."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from runner.agent import docker_socket, inventory
from runner.errors import EngineError
from tests.agent.scene import NODE, Host
from tests.services.dockerd import DockerEngine

pytestmark = [pytest.mark.docker, pytest.mark.timeout(600)]

RUN = "20261122-060000-aaaa"
OTHER = "20261122-060000-bbbb"


@pytest.fixture
def host(tmp_path: Path, docker_engine: DockerEngine) -> Iterator[Host]:
    made = Host.made(tmp_path)
    made.environ["DOCKER_HOST"] = docker_engine.host
    yield made
    docker_engine.docker("container", "prune", "--force")
    for left in docker_engine.docker("ps", "-aq").split():
        docker_engine.docker("rm", "-f", left)
    docker_engine.docker("network", "prune", "-f")
    made.close()


@pytest.fixture
def started(docker_engine: DockerEngine, base_image: str) -> list[str]:
    """A container of job 7, a stubborn one of job 8, and one of nobody's."""

    def start(line: str, *labels: str) -> str:
        wanted = [word for label in labels for word in ("--label", label)]
        return docker_engine.docker("run", "-d", "--network", "none", *wanted, base_image, "sh", "-c", line)

    docker_engine.docker("network", "create", "--label", f"pushtrain.run={RUN}", f"pushtrain-{RUN}")
    return [
        start("sleep 600", f"pushtrain.run={RUN}", f"pushtrain.mark={RUN}:0:1:x", "pushtrain.job=7"),
        start("trap '' TERM; sleep 600 & wait; sleep 600", f"pushtrain.run={OTHER}", f"pushtrain.mark={OTHER}:0:1:x",
              "pushtrain.job=8"),
        start("sleep 600"),
    ]  # fmt: skip


def running(engine: DockerEngine) -> set[str]:
    return set(engine.docker("ps", "-aq", "--no-trunc").split())


def test_the_epilog_removes_the_containers_and_networks_of_its_job(
    host: Host, started: list[str], docker_engine: DockerEngine
) -> None:
    of_job, *others = started
    done = host.program("epilog", SLURM_JOB_ID="7", SLURMD_NODENAME=NODE)
    assert done.returncode == 0, done.stderr
    assert running(docker_engine) == set(others)
    assert docker_engine.docker("network", "ls", "-q", "--filter", f"label=pushtrain.run={RUN}") == ""
    assert [left["id"] for left in host.strangers()] == [of_job]


def test_before_a_host_offers_gpus_containers_of_no_job_are_removed(
    host: Host, started: list[str], docker_engine: DockerEngine
) -> None:
    of_job, stray, nobodys = started
    host.cluster(("7", RUN, ""))
    done = host.program("strangers", NODE)
    assert done.returncode == 0, done.stderr
    assert running(docker_engine) == {of_job, nobodys}
    assert [left["id"] for left in host.strangers()] == [stray]


def test_while_slurmctld_is_away_containers_of_a_living_host_process_stay(
    host: Host, started: list[str], docker_engine: DockerEngine
) -> None:
    of_job, _, nobodys = started
    host.slurmctld_dies()
    host.guardian(f"{RUN}:0:1:x")
    assert host.program("strangers", NODE).returncode == 0
    assert running(docker_engine) == {of_job, nobodys}


def test_the_inventory_knows_dockers_version(docker_engine: DockerEngine, tmp_path: Path) -> None:
    found = inventory.look(tmp_path)
    assert found.docker_version == docker_engine.docker("version", "--format", "{{.Server.Version}}")
    assert found.docker_trouble == ""


def test_docker_is_asked_without_its_sdk_and_says_what_it_refuses(docker_engine: DockerEngine) -> None:
    assert os.environ["DOCKER_HOST"] == docker_engine.host
    assert docker_socket.answers() == ""
    docker_socket.delete("/containers/none?force=1")
    with pytest.raises(EngineError, match="No such container"):
        docker_socket.get("/containers/none/json")
