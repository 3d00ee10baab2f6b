"""Hosts of a fleet that are cut off, switched off or rebooted in the middle of a run."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from tests.engines.project import wait_for
from tests.slurm.project import FleetProject
from tests.slurm.training import begin, complete, let_go

if TYPE_CHECKING:
    pass

pytestmark = [pytest.mark.fleet, pytest.mark.slow, pytest.mark.timeout(500)]

CUT_S = 10.0


def cluster_sees(fleet: FleetProject, host: str, *states: str) -> None:
    """Wait until Slurm takes a host for one in any of these states."""

    def seen() -> bool:
        told = fleet.slurm("sinfo", "--noheader", "-N", "-n", host, "--format=%T").split()
        return bool(told) and told[0].rstrip("*") in states

    # Hosts that are down are pinged less and less often.
    wait_for(seen, what=f"{host} {states}", told=fleet.told, within_s=240)


def test_a_host_that_is_cut_for_ten_seconds_stays_and_one_cut_for_good_is_replaced(
    fleet: FleetProject,
) -> None:
    follower = begin(fleet)
    node = next(number for number in range(2) if fleet.node_of(number) is not fleet.batch_host())
    cut = fleet.node_of(node)
    cut.cut()
    time.sleep(CUT_S)
    cut.mend()
    fleet.let_go("ping", node=node)
    fleet.until_prints("still here", rank=node)
    assert fleet.run.attempt == 1
    cut.cut()
    complete(fleet, follower, "lost", "succeeded")
    assert cut.name not in fleet.reservation(fleet.run.id)
    fleet.lost.add(cut.name)
    cut.mend()
    cluster_sees(fleet, cut.name, "idle")


def test_where_the_supervisors_host_is_cut_another_takes_over_and_the_old_one_ends_what_it_runs(
    fleet: FleetProject,
) -> None:
    follower = begin(fleet)
    cut = fleet.batch_host()
    cut.cut()
    complete(fleet, follower, "lost", "succeeded")
    assert cut.name not in fleet.reservation(fleet.run.id)
    ended = fleet.run
    wait_for(lambda: not cut.docker("ps", "--quiet"), what="no container there", told=fleet.told)
    wait_for(lambda: not cut.pids("runner.supervise"), what="its end", told=fleet.told)
    fleet.lost.add(cut.name)
    cut.mend()
    cluster_sees(fleet, cut.name, "idle")
    assert fleet.run == ended


def test_a_head_that_is_rebooted_under_a_run_harms_it_not(fleet: FleetProject) -> None:
    fleet.me = "h1"
    follower = begin(fleet)
    fleet.host("h0").off()
    fleet.let_go("ping", node=1)
    fleet.until_prints("still here", rank=1)
    assert fleet.lab is not None
    fleet.lab.boot("h0")
    let_go(fleet)
    complete(fleet, follower, "succeeded")


def test_a_host_that_loses_its_power_and_boots_is_used_again(fleet: FleetProject) -> None:
    follower = begin(fleet)
    fleet.drain("h0")
    host = next(host for host in map(fleet.node_of, range(2)) if host is not fleet.batch_host())
    host.off()
    assert fleet.lab is not None
    fleet.lab.boot(host.name)
    complete(fleet, follower, "lost", "succeeded")
