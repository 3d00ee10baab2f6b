"""The agent's image on a host that has nothing but Docker: it is a fleet, and a run goes through it."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.lab import Host, Lab
from tests.services.act import copy_action
from tests.services.dockerd import DockerEngine

pytestmark = [pytest.mark.docker, pytest.mark.fleet, pytest.mark.slow, pytest.mark.timeout(600)]

IMAGE = "pushtrain-agent"
TRAIN_YML = """\
name: one
run: echo trained in a container; mkdir -p outputs; echo 1 >outputs/x
environment: {{image: "{image}"}}
"""


@pytest.fixture(scope="module")
def host(
    docker_engine: DockerEngine, base_image: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Host]:
    """A host of the lab with the image, made as docs/operations.md has it."""
    source = copy_action(tmp_path_factory.mktemp("image") / "source")
    argv = [
        "/usr/bin/docker",
        "build",
        "-q",
        "--target",
        "agent",
        "-t",
        IMAGE,
        "--build-arg",
        f"BASE={base_image}",
    ]
    env = {**os.environ, "DOCKER_HOST": docker_engine.host, "DOCKER_BUILDKIT": "1"}
    done = subprocess.run([*argv, str(source)], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    lab = Lab.up(tmp_path_factory.mktemp("lab"), hosts=1, gpus=0, slurm="none")
    try:
        _hand_over(docker_engine, lab.head.engine)
        lab.base_image()
        yield lab.head
    finally:
        lab.down()


def _hand_over(one: DockerEngine, other: DockerEngine) -> None:
    saving = subprocess.Popen(["docker", "-H", one.host, "save", IMAGE], stdout=subprocess.PIPE)
    assert saving.stdout is not None
    other.docker("load", stdin=saving.stdout)
    saving.stdout.close()
    assert saving.wait() == 0


@pytest.fixture(scope="module")
def agent(host: Host) -> Host:
    """The same with the agent in a container."""
    start = (*_RUN, "start", "--head", "--store", _STORE, "--no-gpus")
    host.run("docker", "run", "-d", "--restart", "unless-stopped", *start)
    _until(lambda: _is_up(host))
    return host


_STORE = "/var/lib/pushtrain/home/store"
_RUN = (
    *("--name", IMAGE, "--network", "host", "--pid", "host", "--tmpfs", "/run:exec"),
    *(
        "-v",
        "/var/run/docker.sock:/var/run/docker.sock",
        "-v",
        "/var/lib/pushtrain:/var/lib/pushtrain",
        IMAGE,
    ),
)


def test_a_folder_that_executes_nothing_is_told_at_once(host: Host) -> None:
    argv = ("docker", "run", "--rm", "--tmpfs", "/run", IMAGE, "start", "--head")
    done = host.run(*argv, check=False)
    assert (done.returncode, done.stderr.splitlines()[-1]) == (64, "  tip: docker run --tmpfs /run:exec …")


def test_a_run_goes_through_a_fleet_that_is_a_container(agent: Host, base_image: str) -> None:
    project = Path("/var/lib/pushtrain/home/project")
    text = TRAIN_YML.format(image=base_image)
    agent.run("sh", "-c", f"mkdir -p {project} && cat >{project}/train.yml", given=text)
    done = _inside(agent, "pushtrain", "run", "--engine", "slurm", str(project))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "trained in a container" in done.stdout
    own = agent.docker("ps", "-q", "--filter", f"name={IMAGE}")
    _until(lambda: agent.docker("ps", "-q").splitlines() == [own])


def test_the_key_is_in_no_layer_and_no_setting(agent: Host) -> None:
    assert agent.run("docker", "run", "--rm", "--entrypoint", "ls", IMAGE, "/etc/munge").stdout.split() == []
    token = agent.run("cat", "/var/lib/pushtrain/token").stdout.strip()
    assert token.startswith("pushtrain1.")
    assert token not in agent.docker("inspect", IMAGE)
    assert agent.run("stat", "-c", "%a", "/var/lib/pushtrain/token").stdout.strip() == "600"


def test_a_container_that_starts_again_is_the_same_fleet(agent: Host) -> None:
    token = agent.run("cat", "/var/lib/pushtrain/token").stdout
    agent.docker("restart", IMAGE)
    _until(lambda: _is_up(agent))
    assert agent.run("cat", "/var/lib/pushtrain/token").stdout == token


def _inside(host: Host, *argv: str) -> subprocess.CompletedProcess[str]:
    return host.run(
        "docker", "exec", "-e", f"PUSHTRAIN_STORE={_STORE}", IMAGE, *argv, check=False, timeout_s=240
    )


def _is_up(host: Host) -> bool:
    return "idle" in _inside(host, "sinfo", "--noheader", "--format=%T").stdout.split()


def _until(holds: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + 120
    while not holds():
        assert time.monotonic() < deadline_s
        time.sleep(0.2)
