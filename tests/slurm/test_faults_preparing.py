"""A run that is only being made ready, and what it needs for that dies: its supervisor, Docker, the registry."""

from __future__ import annotations

import contextlib
import os
import re
import signal
from collections.abc import Iterator
from typing import Any

import pytest

from runner import runs
from tests.engines.project import Command, locked, wait_for
from tests.lab import Lab
from tests.lab.host import Host
from tests.lab.namespaces import named
from tests.slurm.project import FLEET_WITHIN_S, FleetProject, kept
from tests.slurm.training import TWO

pytestmark = [pytest.mark.fleet, pytest.mark.slow, pytest.mark.timeout(250)]

SPEAKS = "print('I live', flush=True)"
DOCKERFILE = "FROM {base}\nRUN echo begun && sleep 3\n"


@pytest.fixture
def yard(lab: Lab) -> Lab:
    return lab


@contextlib.contextmanager
def held_registry(lab: Lab) -> Iterator[None]:
    """The registry takes connections and says nothing."""
    assert lab.fabric.process is not None
    found = named(lab.fabric.process, "docker-registry")
    try:
        for pid in found:
            os.kill(pid, signal.SIGSTOP)
        yield
    finally:
        for pid in found:
            os.kill(pid, signal.SIGCONT)


def without_images(*hosts: Host) -> None:
    for host in hosts:
        for image in host.docker("images", "--quiet", "--no-trunc").split():
            host.docker("rmi", "--force", "--no-prune", image)


def until_does(fleet: FleetProject, host: Host, word: str) -> None:
    wait_for(lambda: host.pids(word), what=f"{word} on {host.name}", told=fleet.told)


def until_runs_steps(fleet: FleetProject, times: int) -> None:
    """Wait until the build of the newest run has come to its own step so often."""

    def count() -> int:
        told = fleet.store.tail(runs.build_log_key(fleet.run_ids[-1]), offset=0) if fleet.run_ids else b""
        return len(re.findall(rb"(?m)^#\d+ \d[\d.]* begun$", told))

    wait_for(lambda: count() >= times, what=f"step {times} of the build", told=fleet.told)


def kill_supervisor(fleet: FleetProject, host: Host) -> None:
    """And wait for its successor."""
    assert host.kill("runner.supervise") == 1
    wait_for(lambda: host.pids("runner.supervise"), what="another one", told=fleet.told)


def queued(fleet: FleetProject, **sections: Any) -> Command:
    """A run that waits for hosts, none of which has its image; and who follows it."""
    fleet.drain("h0", "h1", "h2")
    fleet.write(SPEAKS, **sections)
    follower = fleet.start("run")
    fleet.until("queued")
    without_images(*fleet.hosts)
    return follower


def test_a_supervisor_that_is_killed_while_it_unpacks_or_pulls_is_replaced(
    fleet: FleetProject, yard: Lab
) -> None:
    host = fleet.host("h1")
    follower = queued(fleet)
    with held_registry(yard):
        with locked(host.path(fleet.environ["PUSHTRAIN_HOME"]) / "cache" / "sources" / ".lock"):
            fleet.resume("h1")
            fleet.until("preparing")
            kill_supervisor(fleet, host)
        until_does(fleet, host, "pull")
        kill_supervisor(fleet, host)
        until_does(fleet, host, "pull")
    assert follower.finish(within_s=FLEET_WITHIN_S).code == 0, fleet.told()
    assert kept(fleet.run) == ["succeeded"]


def test_a_supervisor_that_is_killed_while_it_builds_or_pushes_is_replaced(
    fleet: FleetProject, yard: Lab, shared_base: str
) -> None:
    fleet.drain("h0", "h2")
    host = fleet.host("h1")
    fleet.folder.mkdir()
    host.docker("pull", "--quiet", shared_base)
    (fleet.folder / "Dockerfile").write_text(DOCKERFILE.format(base=shared_base))
    fleet.environment = {"dockerfile": "Dockerfile"}
    fleet.write(SPEAKS)
    follower = fleet.start("run")
    until_runs_steps(fleet, 1)
    kill_supervisor(fleet, host)
    until_runs_steps(fleet, 2)
    with held_registry(yard):
        until_does(fleet, host, "push")
        kill_supervisor(fleet, host)
        until_does(fleet, host, "push")
    assert follower.finish(within_s=FLEET_WITHIN_S).code == 0, fleet.told()
    assert kept(fleet.run) == ["succeeded"]


def test_a_docker_that_is_killed_while_it_pulls_for_the_supervisor_or_for_a_host_goes_on(
    fleet: FleetProject, yard: Lab
) -> None:
    hosts = [fleet.host("h1"), fleet.host("h2")]
    follower = queued(fleet, **TWO)
    with held_registry(yard):
        fleet.resume("h1", "h2")
        first = wait_for(
            lambda: next((host for host in hosts if host.pids("pull")), None), what="a pull", told=fleet.told
        )
        assert first is not None
        first.kill("dockerd")
        first.start("dockerd")
        until_does(fleet, first, "pull")
    (other,) = (host for host in hosts if host is not first)
    wait_for(lambda: first.docker("images", "--quiet"), what="the image on the first", told=fleet.told)
    other.kill("dockerd")
    other.start("dockerd")
    assert follower.finish(within_s=FLEET_WITHIN_S).code == 0, fleet.told()
    assert kept(fleet.run) == ["succeeded"]
