"""Runs of a group in Slurm's queue: each waits for those before it."""

from __future__ import annotations

import sys

import pytest

from runner import runs
from runner.slurm import submission
from runner.slurm.queue import read_marked
from tests.engines.project import wait_for
from tests.slurm.project import FleetProject

# Told a store, the id of a run and a group: puts the same run into the queue again, in that group.
SUBMIT = """\
import sys, time
from dataclasses import replace
from pathlib import Path
from runner import engines, plan, runs
from runner.store import open_store
uri, like, group = sys.argv[1:]
store = open_store(uri)
made = replace(plan.from_json(store.read(runs.key(like, "plan.json"))), group=group)
run_id = runs.new_id(now_s=time.time())
store.write(runs.key(run_id, "plan.json"), plan.to_json(made).encode())
engines.load("slurm", home=Path("/var/lib/pushtrain-home"), store=uri).submit(run_id)
"""

# Told a store and the id of a run: puts that run into the queue.
AGAIN = """\
import sys
from pathlib import Path
from runner import engines
uri, run_id = sys.argv[1:]
engines.load("slurm", home=Path("/var/lib/pushtrain-home"), store=uri).submit(run_id)
"""


def record(job: str, comment: str) -> str:
    return f"{job:256}{comment:1024}\n"


def test_the_jobs_of_a_group_are_those_whose_comment_ends_with_its_mark() -> None:
    mine, other = (submission.mark("acme/digits: job: main", store=f"s3://{name}/") for name in ("a", "b"))
    queue = (
        record("7", f"pushtrain job acme/digits ada {mine}")
        + record("8", f"pushtrain job acme/digits ada {other}")
        + record("9", f"pushtrain {mine} acme/digits")
        + record("10", f"a line\n{mine}")
        + record("11_[2-3]", "(null)")
        + record("12", f"pushtrain job - {mine}")
    )
    assert read_marked(queue, mine) == ("7", "12")
    assert read_marked("", mine) == ()


def test_people_are_not_shown_the_mark() -> None:
    said = "pushtrain job acme/digits ada"
    assert submission.unmarked(f"{said} {submission.mark('a', store='b')}") == said
    assert submission.unmarked(said) == said


@pytest.mark.fleet
@pytest.mark.timeout(300)
def test_a_run_waits_for_the_earlier_runs_of_its_group_and_for_no_other(fleet: FleetProject) -> None:
    fleet.write("hold()", resources={"nodes": 3})
    fleet.pushtrain("run", "--detach")
    like = fleet.run.id
    for group in ("one", "one", "two", "one"):
        fleet.host("h0").run(sys.executable, "-c", SUBMIT, fleet.store_uri, like, group)
    told = fleet.slurm("squeue", "--noheader", "--sort=i", "-O", "JobID:16,Dependency:128").splitlines()
    jobs, waits = zip(*(line.split(maxsplit=1) for line in told), strict=True)
    assert [each.strip() for each in (waits[0], waits[1], waits[3])] == ["(null)"] * 3
    assert f"afterany:{jobs[1]}" in waits[2]
    assert jobs[3] not in waits[4]
    assert f"afterany:{jobs[1]}" in waits[4]
    assert f"afterany:{jobs[2]}" in waits[4]
    fleet.slurm("scancel", *jobs[1:])
    fleet.pushtrain("cancel", like, "--kill")


@pytest.mark.fleet
@pytest.mark.timeout(300)
def test_a_run_that_got_hosts_before_its_turn_gives_them_back(fleet: FleetProject) -> None:
    fleet.write("hold()", resources={"nodes": 3})
    fleet.pushtrain("run", "--detach")
    like = fleet.run.id
    for _ in range(2):
        fleet.host("h0").run(sys.executable, "-c", SUBMIT, fleet.store_uri, like, "one")
    first, second = fleet.run_ids[-2:]
    fleet.until("running", run_id=first)
    waits = next(job for job in fleet.jobs() if "PENDING" in job).split()[0]
    fleet.slurm("scontrol", "update", f"JobId={waits}", "Dependency=")
    wait_for(
        # In the words of who waits, or of who gives its hosts back: Slurm may end it before it says those.
        lambda: f"behind {first}" in runs.load(fleet.store, second).reason,
        what="the turn",
        told=fleet.told,
        within_s=120,
    )
    wait_for(
        lambda: "afterany" in fleet.slurm("scontrol", "show", "job", waits),
        what="a dependency",
        told=fleet.told,
        within_s=120,
    )
    for run_id in (second, first, like):
        fleet.pushtrain("cancel", run_id, "--kill")


@pytest.mark.fleet
@pytest.mark.timeout(300)
def test_a_run_behind_one_that_has_no_job_stays_on_its_hosts_until_that_has_one_again(
    fleet: FleetProject,
) -> None:
    fleet.write("print('I live', flush=True); hold()", resources={"nodes": 3})
    fleet.pushtrain("run", "--detach")
    like = fleet.run.id
    for _ in range(2):
        fleet.host("h0").run(sys.executable, "-c", SUBMIT, fleet.store_uri, like, "one")
    first, second = fleet.run_ids[-2:]
    wait_for(lambda: fleet.log(first), what="a rank", told=fleet.told, within_s=120)
    fleet.slurm("scancel", "--full", "--name", first)
    wait_for(
        lambda: f"{first} has no supervisor" in runs.load(fleet.store, second).reason,
        what="a run that waits for its turn on its hosts",
        told=fleet.told,
        within_s=120,
    )
    assert job_of(fleet, second).split()[:2] == ["R", "0"]
    left = runs.load(fleet.store, first)
    assert (left.state, left.tip) == (runs.State.QUEUED, f"pushtrain resume {first}")
    assert left.reason == "its job is over: somebody cancelled it in Slurm (scancel) (CANCELLED)"

    fleet.host("h0").run(sys.executable, "-c", AGAIN, fleet.store_uri, first)
    assert "afterany" not in job_of(fleet, first), "each would wait for the other"
    wait_for(
        lambda: "afterany" in job_of(fleet, second),
        what="a run that gives way",
        told=fleet.told,
        within_s=120,
    )
    for run_id in (second, first, like):
        fleet.pushtrain("cancel", run_id, "--kill")


def job_of(fleet: FleetProject, run_id: str) -> str:
    """State, starts and dependency of a run's job."""
    fields = "StateCompact:8,RestartCnt:8,Dependency:128"
    return fleet.slurm("squeue", "--noheader", "--name", run_id, "-O", fields)
