"""Runs on a fleet: submitted, waiting, followed from any host, cancelled; their gangs placed on hosts of their own."""

from __future__ import annotations

import json
import re

import pytest

from runner import runs
from runner.record import Record
from tests.engines.project import wait_for
from tests.slurm.project import FleetProject

pytestmark = [pytest.mark.fleet, pytest.mark.timeout(300)]

THREE = {"resources": {"nodes": 3}}
GPUS = {"resources": {"nodes": 3, "gpu": 2}}


def test_a_gang_has_a_host_for_each_node_and_its_outputs_come_back(fleet: FleetProject) -> None:
    fleet.write(
        """
        import socket
        rank = os.environ["PUSHTRAIN_RANK"]
        addresses = os.environ["PUSHTRAIN_NODE_ADDRESSES"].split(",")
        print("rank", rank, "reaches", sorted({socket.gethostbyname(each) for each in addresses}))
        open(f"outputs/{rank}.txt", "w").write(rank)
        """,
        **THREE,
    )
    finished = fleet.pushtrain("run", within_s=120)
    assert finished.code == 0, finished.output + fleet.told()
    assert sorted(fleet.reservation(fleet.run.id)) == ["h0", "h1", "h2"]
    for rank in range(3):
        assert f"rank {rank} reaches ['10.77." in fleet.log(fleet.run.id, rank=rank)
    assert set(fleet.outputs()) == {"outputs/0.txt", "node-1/outputs/1.txt", "node-2/outputs/2.txt"}


def test_a_run_is_followed_shown_and_cancelled_from_another_host(fleet: FleetProject) -> None:
    fleet.write("print('I live', flush=True); hold()", **THREE)
    started = fleet.pushtrain("run", "--detach")
    assert started.code == 0, started.output
    fleet.until_prints("I live", rank=2)
    fleet.me = "h2"
    assert "running" in fleet.pushtrain("show", "last").output
    assert "I live" in fleet.pushtrain("logs", "last").output
    assert fleet.pushtrain("cancel", "last").code == 0
    assert fleet.until("cancelled").exit_code == 130


def test_the_second_gang_for_the_same_gpus_waits_and_says_behind_whom(fleet: FleetProject) -> None:
    fleet.write("print('I live', flush=True); hold()", **GPUS)
    fleet.pushtrain("run", "--detach")
    fleet.until("running")
    first = fleet.run.id
    follower = fleet.start("run", "--fresh")
    wait_for(
        lambda: [run for run in runs.listing(fleet.store) if first in run.reason], what="why", told=fleet.told
    )
    assert first in fleet.pushtrain("queue").output
    fleet.pushtrain("cancel", first, "--kill")
    fleet.until("running")
    fleet.pushtrain("cancel", "last", "--kill")
    assert follower.finish().code == 130


def test_a_run_that_waits_is_cancelled_at_once(fleet: FleetProject) -> None:
    fleet.write("hold()", **GPUS)
    fleet.pushtrain("run", "--detach")
    fleet.until("running")
    first = fleet.run.id
    fleet.pushtrain("run", "--detach", "--fresh")
    assert fleet.pushtrain("cancel", "last").code == 0
    assert fleet.run.state == "cancelled"
    fleet.pushtrain("cancel", first, "--kill")


def test_timeout_queue_ends_a_run_that_got_no_hosts(fleet: FleetProject) -> None:
    fleet.write("hold()", **GPUS, timeout={"queue": "3s", "grace": "1s"})
    fleet.pushtrain("run", "--detach")
    fleet.until("running")
    first = fleet.run.id
    finished = fleet.pushtrain("run", "--fresh")
    assert finished.code == 75, finished.output
    assert "timeout.queue" in finished.output
    fleet.pushtrain("cancel", first, "--kill")


def test_more_than_the_fleet_has_is_refused_at_once_with_what_there_is(fleet: FleetProject) -> None:
    fleet.write("pass", resources={"nodes": 4})
    finished = fleet.pushtrain("run")
    assert finished.code == 71
    assert "h0 has" in finished.output
    fleet.write("pass", resources={"nodes": 1, "gpu": 3})
    assert fleet.pushtrain("run").code == 71
    fleet.write("pass", resources={"labels": {"pool": "moon"}})
    finished = fleet.pushtrain("run")
    assert finished.code == 71
    assert "pool: moon" in finished.output
    assert fleet.jobs() == []


def test_each_node_gets_the_gpus_that_slurm_gave_it(fleet: FleetProject) -> None:
    fleet.write("hold()", resources={"nodes": 1, "gpu": 1})
    ids = []
    for _ in range(2):
        fleet.pushtrain("run", "--detach", "--fresh")
        ids.append(fleet.until("running").id)
    slots = [kept.slots[0] for kept in map(lambda i: Record(fleet.store, i).reservation(), ids) if kept]
    assert len({(slot.host, slot.gpus) for slot in slots}) == 2
    assert all(len(slot.gpus) == 1 for slot in slots)
    for run_id in ids:
        fleet.pushtrain("cancel", run_id, "--kill")


def test_a_run_of_a_higher_ten_takes_the_hosts_and_the_lower_one_goes_on_from_its_checkpoint(
    fleet: FleetProject,
) -> None:
    fleet.write(
        """
        path = os.path.join(os.environ.get("PUSHTRAIN_RESUME_FROM", "none"), "step")
        step = int(open(path).read()) if os.path.exists(path) else 0
        print("from step", step, flush=True)
        os.makedirs("outputs/checkpoints", exist_ok=True)
        open("outputs/checkpoints/step", "w").write("7")
        hold() if step == 0 else None
        """,
        **GPUS,
        outputs={"checkpoints": "outputs/checkpoints"},
        policy={"priority": 30},
    )
    lower = fleet.start("run")
    fleet.until_prints("from step 0")
    first = fleet.run.id
    wait_for(lambda: list(fleet.store.keys(f"runs/{first}/live/")), what="a checkpoint in the store")
    fleet.write("print('urgent', flush=True)", **GPUS, policy={"priority": 80})
    urgent = fleet.pushtrain("run", within_s=120)
    assert urgent.code == 0, urgent.output + fleet.told()
    assert lower.finish(within_s=120).code == 0, fleet.told()
    assert "from step 7" in fleet.log(first, attempt=2)


def test_the_fleet_knows_who_asked_by_the_jobs_comment_and_no_secret_is_in_a_command(
    fleet: FleetProject,
) -> None:
    fleet.environ["MY_TOKEN"] = "hunter2-hunter2"
    fleet.write("print(len(os.environ['MY_TOKEN']), flush=True); hold()", secrets=["MY_TOKEN"])
    fleet.pushtrain("run", "--detach")
    fleet.until_prints("15")
    told = fleet.slurm("scontrol", "show", "job", "--details") + fleet.slurm("ps", "-efww")
    assert "pushtrain job" in told
    assert "hunter2" not in told
    assert "hunter2" not in json.dumps(
        fleet.slurm("scontrol", "write", "batch_script", fleet.jobs()[0].split()[0], "-")
    )
    fleet.pushtrain("cancel", "last", "--kill")


def test_mpirun_reaches_every_host_without_sshd(fleet: FleetProject, shared_base: str) -> None:
    fleet.environment = {"base": shared_base}
    fleet.write(
        """
        print("I am", os.environ["PUSHTRAIN_RANK"], "of", os.environ["OMPI_COMM_WORLD_SIZE"], flush=True)
        """,
        resources={"nodes": 3},
        distribution={"type": "mpi", "processes_per_node": 2},
    )
    finished = fleet.pushtrain("run", within_s=280)
    assert finished.code == 0, finished.output + fleet.told()
    for rank in range(6):
        assert f"I am {rank} of 6" in fleet.log(fleet.run.id, rank=rank)


@pytest.mark.parametrize("me", ["h0", "h2"])  # The supervisor sees it there, or it does not either.
def test_a_store_that_the_hosts_do_not_see_is_named(fleet: FleetProject, me: str) -> None:
    fleet.write("pass", resources={"nodes": 3})
    fleet.me, fleet.store_uri = me, "/var/lib/only-here"
    finished = fleet.pushtrain("run", within_s=60)
    assert finished.code == 74, finished.output
    found = re.search(
        r"(h\d) does not reach the run's store: (\S+) is not in file://(\S+) there", finished.output
    )
    assert found, finished.output
    assert found[1] != me
    assert found[3] == fleet.store_uri
    assert "PUSHTRAIN_STORE=s3://" in finished.output
