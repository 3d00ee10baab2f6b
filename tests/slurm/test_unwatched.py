"""Runs that wait and that nobody follows: the head looks after them."""

from __future__ import annotations

import sys

import pytest

from runner.runs import State
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
