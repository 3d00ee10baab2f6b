"""Runs that wait and that nobody follows: the head looks after them."""

from __future__ import annotations

import sys

import pytest

from runner.runs import State
from tests.engines.project import wait_for
from tests.slurm.project import FleetProject

pytestmark = [pytest.mark.docker, pytest.mark.fleet, pytest.mark.timeout(300)]

GPUS = {"resources": {"nodes": 3, "gpu": 2}}


def test_timeout_queue_holds_for_a_run_that_nobody_looks_at(fleet: FleetProject) -> None:
    fleet.write("hold()", **GPUS, timeout={"queue": "3s", "grace": "1s"})
    fleet.pushtrain("run", "--detach")
    fleet.until("running")
    first = fleet.run.id
    fleet.pushtrain("run", "--detach", "--fresh")
    second = fleet.run.id

    tended = fleet.host("h0").run(sys.executable, "-m", "runner.agent.queued", "--store", fleet.store_uri)

    assert tended.returncode == 0
    assert (fleet.run.id, fleet.run.state, fleet.run.exit_code) == (second, State.FAILED, 75)
    assert fleet.run.reason.startswith("timeout.queue: it got no hosts within 3 s")
    fleet.pushtrain("cancel", first, "--kill")


REVIVE = """\
import sys
from pathlib import Path
from runner import engines, runs, slurm
from runner.agent import revival
from runner.store import open_store
uri, run_id = sys.argv[1:]
store, engine = open_store(uri), engines.load("slurm", home=Path("/var/lib/pushtrain-home"), store=uri)
revival.revive(runs.load(store, run_id), store=store, slurm=slurm.find(), submit=engine.submit)
"""


def test_a_run_whose_batch_script_was_killed_gets_its_job_back(fleet: FleetProject) -> None:
    fleet.write("print('I live', flush=True); hold()")
    fleet.pushtrain("run", "--detach")
    fleet.until_prints("I live")
    host = fleet.batch_host()
    host.kill("slurm_script")
    wait_for(lambda: not fleet.jobs(), what="the end of its job", told=fleet.told)
    assert not fleet.run.state.ended

    fleet.host("h0").run(sys.executable, "-c", REVIVE, fleet.store_uri, fleet.run.id)

    fleet.until_attempt(2)
    fleet.pushtrain("cancel", "last", "--kill")
