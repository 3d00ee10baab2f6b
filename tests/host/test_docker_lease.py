"""Containers and their lease: they end when their host process does, however it ends, and not before."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from runner.launch import Process
from tests.engines.project import wait_for
from tests.services.dockerd import DockerEngine

from .hosting import direct, job, local_host, printed, under_launcher

pytestmark = [pytest.mark.docker, pytest.mark.timeout(300)]

STUBBORN = "trap '' TERM; echo begun; while :; do sleep 1; done"
SAVING = "trap 'echo saved; exit 0' TERM; echo begun; while :; do sleep 0.1; done"
KINDS = {
    "one rank": direct(STUBBORN),
    "two ranks": direct(STUBBORN, STUBBORN),
    "under a launcher": under_launcher(STUBBORN),
}


@pytest.fixture
def docker(docker_engine: DockerEngine) -> Iterator[DockerEngine]:
    """A Docker without containers, before the test and after it."""
    yield docker_engine
    if left := docker_engine.docker("ps", "-aq").split():
        docker_engine.docker("rm", "-f", *left)


def running(docker: DockerEngine) -> list[str]:
    return docker.docker("ps", "--format", "{{.Names}} {{.Status}}").splitlines()


@pytest.mark.parametrize("processes", KINDS.values(), ids=KINDS)
def test_containers_end_when_host_process_and_guardian_are_killed_at_once(
    processes: tuple[Process, ...], tmp_path: Path, docker: DockerEngine, base_image: str
) -> None:
    told = job(tmp_path, *processes, image=base_image)
    with local_host(tmp_path) as host:
        host.train(told)
        wait_for(lambda: "begun" in printed(told)(), what="a rank that has begun")
        host.kill_with_guardian()
        wait_for(lambda: not running(docker), what="the end of all containers", within_s=10)


def test_a_rank_is_asked_to_end_before_it_is_killed(
    tmp_path: Path, docker: DockerEngine, base_image: str
) -> None:
    script = SAVING.replace("echo saved", "touch saved")
    told = job(tmp_path, *direct(script), image=base_image)
    with local_host(tmp_path) as host:
        host.train(told)
        wait_for(lambda: "begun" in printed(told)(), what="a rank that has begun")
        host.kill_with_guardian()
        wait_for(lambda: not running(docker), what="the end of all containers", within_s=4)
    assert (told.work / "saved").exists()


@pytest.mark.parametrize("processes", [direct(SAVING), under_launcher(SAVING)], ids=["direct", "launched"])
def test_a_host_process_that_is_merely_slow_keeps_its_containers(
    processes: tuple[Process, ...], tmp_path: Path, docker: DockerEngine, base_image: str
) -> None:
    told = job(tmp_path, *processes, image=base_image)
    with local_host(tmp_path) as host:
        host.train(told)
        wait_for(lambda: "begun" in printed(told)(), what="a rank that has begun")
        os.kill(host.pid, signal.SIGSTOP)
        time.sleep(7)  # Longer than a lease that has ended leaves to the training.
        assert len(running(docker)) == 1
        os.kill(host.pid, signal.SIGCONT)
        host.channel.send("stop", grace_s=20)
        assert host.hear("exited")["code"] == 0
    assert "saved" in printed(told)()


def test_a_training_has_no_input_and_no_child_that_it_does_not_know(
    tmp_path: Path, docker: DockerEngine, base_image: str
) -> None:
    look = """
import os, sys
print("input", repr(sys.stdin.read()), os.readlink("/proc/self/fd/0"), sorted(os.listdir("/proc/self/fd")))
try:
    os.wait()
except ChildProcessError:
    print("no child")
"""
    process = Process(rank=0, local_rank=0, node_rank=0, argv=("python3", "-c", look))
    told = job(tmp_path, process, image=base_image)
    with local_host(tmp_path) as host:
        host.train(told)
        assert host.hear("exited")["code"] == 0
    output = printed(told)()
    assert "input '' /dev/null ['0', '1', '2', '3']" in output, output  # 3 is the folder that is listed.
    assert "no child" in output


def test_a_training_that_ends_the_lease_ends_itself(
    tmp_path: Path, docker: DockerEngine, base_image: str
) -> None:
    script = "trap '' TERM; sleep 1; kill -s KILL -- -1; echo unreached"
    told = job(tmp_path, *under_launcher(script), image=base_image)
    with local_host(tmp_path) as host:
        host.train(told)
        assert host.hear("exited")["code"] != 0
        wait_for(lambda: not running(docker), what="the end of the container", within_s=10)
