"""A gang that keeps its step, waits, and goes on from it in a later attempt; and what is asked of it then."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.slurm.project import FLEET_WITHIN_S, FleetProject, kept

if TYPE_CHECKING:
    from tests.engines.project import Command

# Of three hosts with two GPUs each: one is left.
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


def begin(fleet: FleetProject, *, free: str = "h0") -> Command:
    """A gang on the two other hosts that has kept something, and who follows it; `free` may be used from then on."""
    fleet.drain(free)
    fleet.write(GOES_ON, **TWO, **CHECKPOINTS)
    follower = fleet.start("run")
    fleet.until_prints("from step 0", rank=1)
    fleet.until_kept()
    fleet.resume(free)
    return follower


def let_go(fleet: FleetProject) -> None:
    """Have all ranks of the first attempt end."""
    for node in range(2):
        fleet.let_go("ping", node=node)
        fleet.let_go(node=node)


def complete(fleet: FleetProject, follower: Command, *attempts: str) -> None:
    """It succeeded, its attempts ended so, and nothing that it wrote is missing."""
    assert follower.finish(within_s=FLEET_WITHIN_S).code == 0, fleet.told()
    assert kept(fleet.run) == list(attempts), fleet.told()
    last = len(attempts)
    for rank in range(2):
        assert f"from step {7 if last > 1 else 0}" in fleet.log(fleet.run.id, attempt=last, rank=rank)
    assert {"outputs/0.txt", "node-1/outputs/1.txt"} <= set(fleet.outputs())
