"""Daemons of a fleet that are killed with -9 under a run: Slurm's, Docker's, and Pushtrain's own processes."""

from __future__ import annotations

import time

import pytest

from tests.engines.project import wait_for
from tests.lab.slurm import STATE
from tests.slurm.project import FLEET_WITHIN_S, FleetProject, kept
from tests.slurm.training import TWO, begin, complete, let_go

pytestmark = [pytest.mark.fleet, pytest.mark.slow, pytest.mark.timeout(200)]


def test_slurms_own_daemons_that_are_killed_harm_no_run(fleet: FleetProject) -> None:
    follower = begin(fleet)
    for host in fleet.hosts:
        for daemon in ("munged", "slurmd", "slurmctld"):
            host.kill(daemon)
    fleet.let_go("ping", node=1)
    fleet.until_prints("still here", rank=1)
    for host in fleet.hosts:
        host.start("munged")
    fleet.host("h0").start("slurmctld")
    for host in fleet.hosts:
        host.start("slurmd")
    assert fleet.lab is not None
    fleet.lab.ready()
    let_go(fleet)
    complete(fleet, follower, "succeeded")


def test_a_supervisor_that_is_killed_is_replaced(fleet: FleetProject) -> None:
    follower = begin(fleet)
    assert fleet.batch_host().kill("runner.supervise") == 1
    complete(fleet, follower, "lost", "succeeded")


def test_a_host_process_that_is_killed_with_its_guardian_is_replaced(fleet: FleetProject) -> None:
    follower = begin(fleet)
    host = next(host for host in map(fleet.node_of, range(2)) if host is not fleet.batch_host())
    host.kill("runner.host.leash")
    host.kill("runner.host")
    complete(fleet, follower, "lost", "succeeded")


def test_a_docker_that_is_killed_and_comes_back_costs_an_attempt(fleet: FleetProject) -> None:
    follower = begin(fleet)
    host = fleet.node_of(1)
    host.kill("dockerd")
    host.start("dockerd")
    complete(fleet, follower, "lost", "succeeded")


@pytest.mark.parametrize("stage", ["collecting", "publishing"])
def test_a_supervisor_that_is_killed_at_the_end_of_a_run_is_replaced(fleet: FleetProject, stage: str) -> None:
    fleet.write("print('I live', flush=True); hold(); open('outputs/a.txt', 'w').write('a')")
    follower = fleet.start("run")
    fleet.until_prints("I live")
    with fleet.held_stage(stage):
        fleet.let_go()
        fleet.until(stage)
        fleet.batch_host().kill("runner.supervise")
        wait_for(lambda: fleet.batch_host().pids("runner.supervise"), what="another one", told=fleet.told)
    assert follower.finish(within_s=FLEET_WITHIN_S).code == 0, fleet.told()
    assert kept(fleet.run) == ["succeeded"]
    assert fleet.outputs() == {"outputs/a.txt": b"a"}


def test_a_slurmctld_that_is_killed_right_after_a_launch_leaves_no_run_held(fleet: FleetProject) -> None:
    """Slurm holds such a job now and then, as "Duplicate jobid" or "launch failed requeued held"."""
    fleet.write("print('I live', flush=True); hold()", **TWO)
    follower = fleet.start("run")
    wait_for(lambda: any("RUNNING" in job for job in fleet.jobs()), what="a launch", told=fleet.told)
    saved = fleet.host("h0").path(STATE / "job_state")  # A job that was never written down is gone for good.
    wait_for(
        lambda: saved.exists() and fleet.run_ids[-1].encode() in saved.read_bytes(),
        what="Slurm's state",
        told=fleet.told,
    )
    fleet.host("h0").kill("slurmctld")
    time.sleep(1)
    fleet.host("h0").start("slurmctld")
    assert fleet.lab is not None
    fleet.lab.ready()
    wait_for(lambda: fleet.run.state == "running", what="it runs", told=fleet.told, within_s=FLEET_WITHIN_S)
    fleet.until_prints("I live", attempt=fleet.run.attempt, rank=1)
    for node in range(2):
        fleet.let_go(node=node)
    assert follower.finish(within_s=FLEET_WITHIN_S).code == 0, fleet.told()


def test_a_host_process_that_is_killed_before_the_ranks_start_costs_nothing(fleet: FleetProject) -> None:
    fleet.write("print('I live', flush=True)", **TWO)
    follower = fleet.start("run")
    host = wait_for(
        lambda: next((host for host in fleet.hosts if host.kill("runner.host")), None),
        what="a host process",
        told=fleet.told,
    )
    assert host is not None
    assert follower.finish(within_s=FLEET_WITHIN_S).code == 0, f"{host.name}\n{fleet.told()}"


def test_a_host_whose_docker_stays_dead_is_left_out_and_named(fleet: FleetProject) -> None:
    follower = begin(fleet)
    host = next(host for host in map(fleet.node_of, range(2)) if host is not fleet.batch_host())
    host.kill("dockerd")
    complete(fleet, follower, "lost", "succeeded")
    assert host.name not in fleet.reservation(fleet.run.id)
    assert any(f"{host.name} is left out" in said and "Docker" in said for said in fleet.run.warnings)
    fleet.lost.add(host.name)
    host.start("dockerd")
    # They hold nothing; the next run there removes them, a minute after their end.
    host.docker("container", "prune", "--force")


def test_a_run_whose_supervisor_has_a_dead_docker_starts_elsewhere(fleet: FleetProject) -> None:
    fleet.drain("h0", "h1")
    host = fleet.host("h2")
    host.kill("dockerd")
    fleet.write("print('I live', flush=True)")
    follower = fleet.start("run")
    wait_for(lambda: host.pids("runner.supervise"), what="a supervisor there", told=fleet.told)
    fleet.resume("h0", "h1")
    assert follower.finish(within_s=FLEET_WITHIN_S).code == 0, fleet.told()
    assert kept(fleet.run) == ["succeeded"]
    assert any("h2 is left out" in said and "Docker" in said for said in fleet.run.warnings), fleet.told()
    fleet.lost.add(host.name)
    host.start("dockerd")
    # They hold nothing; the next run there removes them, a minute after their end.
    host.docker("container", "prune", "--force")


def test_a_job_that_slurm_starts_twice_is_released(fleet: FleetProject) -> None:
    """A slurmctld that was killed right after a launch has the job waiting still: the host says "Duplicate jobid"."""
    head = fleet.host("h0")
    fleet.drain("h0", "h1", "h2")
    fleet.write("print('I live', flush=True); hold()")
    follower = fleet.start("run")
    fleet.until("queued")
    saved = head.path(STATE / "job_state")
    wait_for(
        lambda: saved.exists() and fleet.run_ids[-1].encode() in saved.read_bytes(),
        what="Slurm's state",
        told=fleet.told,
    )
    before = saved.read_bytes()
    fleet.resume("h1")
    fleet.until_prints("I live")
    head.kill("slurmctld")
    saved.write_bytes(before)
    head.start("slurmctld")
    fleet.resume("h1")
    fleet.until_attempt(2)
    fleet.let_go()
    assert follower.finish(within_s=FLEET_WITHIN_S).code == 0, fleet.told()
    assert kept(fleet.run) == ["lost", "succeeded"]
