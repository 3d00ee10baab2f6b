"""What hosts need and is away for a while: the store, the registry, room on a disk; containers that do not end."""

from __future__ import annotations

import os
import time

import pytest

from runner import runs
from tests.engines.project import wait_for
from tests.slurm.project import FLEET_WITHIN_S, HOME, FleetProject, kept
from tests.slurm.training import TWO, begin, complete

pytestmark = [pytest.mark.fleet, pytest.mark.slow, pytest.mark.timeout(200)]

BUSY_S = 60.0
STUBBORN = """
import signal
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("I live", flush=True)
hold()
"""


def test_a_store_that_answers_503_for_a_minute_in_which_the_run_ends_loses_nothing(
    fleet: FleetProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert fleet.lab is not None
    store = fleet.lab.store
    for name, value in store.environ.items():
        monkeypatch.setenv(name, value)
    fleet.store_uri, fleet.environ = store.uri(), {**fleet.environ, **store.environ}
    follower = begin(fleet)
    works = [fleet.work(node) for node in range(2)]
    store.busy()
    time.sleep(BUSY_S / 3)
    for work in works:
        for name in ("ping", "go"):
            (work / name).touch()
    time.sleep(BUSY_S * 2 / 3)
    store.well()
    complete(fleet, follower, "succeeded")
    assert "still here" in fleet.log(fleet.run.id, rank=1)


def test_a_container_that_ignores_sigterm_is_killed_after_the_grace(fleet: FleetProject) -> None:
    fleet.write(STUBBORN, timeout={"run": "2s", "grace": "1s"})
    finished = fleet.pushtrain("run", within_s=FLEET_WITHIN_S)
    assert finished.code == 75, finished.output
    assert "timeout.run" in fleet.run.reason
    fleet.write(STUBBORN, timeout={"grace": "1s"})
    assert fleet.pushtrain("run", "--fresh", "--detach").code == 0
    fleet.until_prints("I live")
    assert fleet.pushtrain("cancel", "last").code == 0
    assert fleet.until("cancelled").exit_code == 130
    assert kept(fleet.run) == ["cancelled"]


def test_a_full_disk_of_one_host_is_told_with_its_name(fleet: FleetProject) -> None:
    fleet.drain("h0")
    fleet.host("h2").fill(left_mib=1)  # Enough for slurmd, which would take no job otherwise.
    fleet.folder.mkdir()
    (fleet.folder / "weights").write_bytes(os.urandom(4 << 20))
    fleet.write("pass", **TWO)
    follower = fleet.start("run")
    wait_for(
        lambda: any(run.state.ended for run in runs.listing(fleet.store)),
        what="its end",
        told=fleet.told,
        within_s=30,
    )
    assert follower.finish().code != 0
    assert "the disk of h2 is full" in fleet.run.reason, fleet.told()
    fleet.host("h2").empty()


def test_a_host_without_room_for_a_supervisor_is_named_and_left_out_and_the_run_goes_on_elsewhere(
    fleet: FleetProject,
) -> None:
    fleet.drain("h0")
    busy = ("--parsable", "--output=/dev/null", "--nodelist=h2", "--exclusive", "--wrap=sleep 600")
    before = fleet.slurm("sbatch", *busy).strip()
    wait_for(
        lambda: fleet.jobs() == [f"{before} RUNNING h2"], what="a job on h2", told=fleet.told, within_s=90
    )
    scratch = f"{HOME}/scratch"
    # Its disk is full for Pushtrain alone: Slurm would give a host no job that has no room for a script.
    fleet.host("h1").run("mkdir", "-p", scratch)
    fleet.host("h1").run("mount", "-t", "tmpfs", "-o", "nr_inodes=1", "full", scratch)
    fleet.write("pass")
    try:
        follower = fleet.start("run")
        wait_for(
            lambda: any(run.warnings for run in runs.listing(fleet.store)),
            what="that a host is left out",
            told=fleet.told,
            within_s=FLEET_WITHIN_S,
        )
        assert "h1 is left out from then on: the disk of h1 is full" in fleet.run.warnings[0]
        fleet.slurm("scancel", before)
        assert follower.finish(within_s=FLEET_WITHIN_S).code == 0, fleet.told()
    finally:
        fleet.host("h1").run("umount", "--lazy", scratch)
    assert kept(fleet.run) == ["succeeded"]
    assert fleet.node_of(0).name == "h2"


def test_a_registry_that_is_down_at_the_pull_is_named_and_the_run_goes_on_when_it_is_back(
    fleet: FleetProject,
) -> None:
    assert fleet.lab is not None
    registry = fleet.lab.registry
    fleet.drain("h0", "h1", "h2")
    fleet.write("print('I live', flush=True)", **TWO)
    follower = fleet.start("run")
    fleet.until("queued")
    for host in fleet.hosts:
        for image in host.docker("images", "--quiet", "--no-trunc").split():
            host.docker("rmi", "--force", "--no-prune", image)
    registry.kill()
    fleet.resume("h1", "h2")
    wait_for(lambda: "trying again" in fleet.run.reason, what="that it is asked again", told=fleet.told)
    assert registry.address in fleet.run.reason, fleet.told()
    registry.start()
    assert follower.finish(within_s=FLEET_WITHIN_S).code == 0, fleet.told()
    assert kept(fleet.run) == ["succeeded"]
