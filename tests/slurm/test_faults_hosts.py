"""Hosts of a fleet that are cut off, switched off or rebooted in the middle of a run."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from tests.engines.project import Command, wait_for
from tests.slurm.project import FLEET_WITHIN_S, FleetProject, kept

if TYPE_CHECKING:
    from tests.lab.host import Host

pytestmark = [pytest.mark.fleet, pytest.mark.slow, pytest.mark.timeout(200)]

# Of three hosts: one is left.
TWO = {"resources": {"nodes": 2, "gpu": 2}}
CHECKPOINTS = {"outputs": {"checkpoints": "outputs/checkpoints"}}
GOES_ON = """
rank = os.environ["PUSHTRAIN_RANK"]
path = os.path.join(os.environ.get("PUSHTRAIN_RESUME_FROM", "none"), "step")
step = int(open(path).read()) if os.path.exists(path) else 0
print("from step", step, flush=True)
os.makedirs("outputs/checkpoints", exist_ok=True)
open("outputs/checkpoints/step", "w").write("7")
if step == 0:
    hold("ping")
    print("still here", flush=True)
    hold()
open(f"outputs/{rank}.txt", "w").write(rank)
"""
CUT_S = 10.0


def cluster_sees(fleet: FleetProject, host: str, *states: str) -> None:
    """Wait until Slurm takes a host for one in any of these states."""

    def seen() -> bool:
        told = fleet.slurm("sinfo", "--noheader", "-N", "-n", host, "--format=%T").split()
        return bool(told) and told[0].rstrip("*") in states

    wait_for(seen, what=f"{host} {states}", told=fleet.told)


def begin(fleet: FleetProject, *, free: str = "h0") -> Command:
    """A gang on the two other hosts that has kept something; `free` may be used from then on."""
    fleet.drain(free)
    fleet.write(GOES_ON, **TWO, **CHECKPOINTS)
    follower = fleet.start("run")
    fleet.until_prints("from step 0", rank=1)
    fleet.until_kept()
    fleet.resume(free)
    return follower


def check(fleet: FleetProject, follower: Command, *, without: Host) -> None:
    """It went on elsewhere from what it had kept, and is complete."""
    assert follower.finish(within_s=FLEET_WITHIN_S).code == 0, fleet.told()
    assert kept(fleet.run) == ["lost", "succeeded"]
    for rank in range(2):
        assert "from step 7" in fleet.log(fleet.run.id, attempt=2, rank=rank)
    assert without.name not in fleet.reservation(fleet.run.id)
    assert {"outputs/0.txt", "node-1/outputs/1.txt"} <= set(fleet.outputs())


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
    check(fleet, follower, without=cut)
    fleet.lost.add(cut.name)
    cut.mend()
    cluster_sees(fleet, cut.name, "idle")


def test_where_the_supervisors_host_is_cut_another_takes_over_and_the_old_one_ends_what_it_runs(
    fleet: FleetProject,
) -> None:
    follower = begin(fleet)
    cut = fleet.batch_host()
    cut.cut()
    check(fleet, follower, without=cut)
    ended = fleet.run
    wait_for(lambda: not cut.docker("ps", "--quiet"), what="no container there", told=fleet.told)
    wait_for(lambda: not cut.pids("runner.supervise"), what="its end", told=fleet.told)
    fleet.lost.add(cut.name)
    cut.mend()
    cluster_sees(fleet, cut.name, "idle")
    assert fleet.run == ended
