"""Faults in the first seconds of a run, in the middle of it, and two of them at once."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

from tests.engines.project import wait_for
from tests.lab.namespaces import named
from tests.slurm.project import FLEET_WITHIN_S, FleetProject, kept
from tests.slurm.training import TWO, begin, complete

pytestmark = [pytest.mark.fleet, pytest.mark.slow, pytest.mark.timeout(250)]

WRITES = """
rank = os.environ["PUSHTRAIN_RANK"]
print("I live", flush=True)
hold()
with open("outputs/weights", "wb") as file:
    for _ in range(64 if rank == "1" else 0):
        file.write(bytes(1 << 20))
        file.flush()
"""


@pytest.fixture
def silent_store(fleet: FleetProject, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """The fleet's runs are in an S3 whose processes these are: stopped ones take requests and say nothing."""
    assert fleet.lab is not None
    assert fleet.lab.fabric.process is not None
    store = fleet.lab.store
    for name, value in store.environ.items():
        monkeypatch.setenv(name, value)
    fleet.store_uri, fleet.environ = store.uri(), {**fleet.environ, **store.environ}
    pids = named(fleet.lab.fabric.process, "tests.lab.s3")
    yield pids
    for pid in pids:
        os.kill(pid, signal.SIGCONT)


def test_a_store_that_is_cut_off_together_with_the_supervisors_host_costs_an_attempt(
    fleet: FleetProject, silent_store: list[int]
) -> None:
    follower = begin(fleet)
    cut = fleet.batch_host()
    cut.cut()
    for pid in silent_store:
        os.kill(pid, signal.SIGSTOP)
    fleet.slurm("scontrol", "update", f"NodeName={cut.name}", "State=DOWN", "Reason=cut off")
    others = [host for host in fleet.hosts if host is not cut]
    wait_for(
        lambda: any(host.pids("runner.supervise") for host in others),
        what="a supervisor elsewhere",
        told=lambda: "\n".join(fleet.jobs()),
        within_s=180,
    )
    for pid in silent_store:
        os.kill(pid, signal.SIGCONT)
    complete(fleet, follower, "lost", "succeeded")
    ended = fleet.run
    fleet.lost.add(cut.name)
    cut.mend()
    wait_for(lambda: not cut.pids("runner.supervise"), what="the end of the old one", told=fleet.told)
    wait_for(lambda: not cut.docker("ps", "--quiet"), what="no container there", told=fleet.told)
    assert fleet.run == ended
    fleet.resume(cut.name)


def test_a_disk_that_fills_up_under_a_run_is_told_with_its_host(fleet: FleetProject) -> None:
    fleet.drain("h0")
    fleet.write(WRITES, **TWO)
    follower = fleet.start("run")
    fleet.until_prints("I live", rank=1)
    host = fleet.node_of(1)
    host.fill(left_mib=8)
    for node in range(2):
        fleet.let_go(node=node)
    finished = follower.finish(within_s=FLEET_WITHIN_S)
    assert finished.code != 0, fleet.told()
    assert f"the disk of {host.name} is full" in fleet.run.reason, fleet.told()
    host.empty()


@pytest.mark.parametrize("daemon", ["munged", "dockerd"])
def test_a_daemon_that_dies_in_the_first_second_of_a_run_costs_an_attempt_at_most(
    fleet: FleetProject, daemon: str
) -> None:
    fleet.drain("h0")
    fleet.write("print('I live', flush=True)", **TWO)
    follower = fleet.start("run")
    wait_for(lambda: any("RUNNING" in job for job in fleet.jobs()), what="a launch", told=fleet.told)
    hosts = [host for host in fleet.hosts if host.pids(daemon)]
    for host in hosts:
        host.kill(daemon)
    for host in hosts:
        host.start(daemon)
    assert follower.finish(within_s=FLEET_WITHIN_S).code == 0, fleet.told()
    assert kept(fleet.run)[-1] == "succeeded"
