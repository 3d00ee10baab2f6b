"""A gang on three hosts of which one has GPUs that do nothing: it is stopped, and whoever asked is told which."""

from __future__ import annotations

import json

import pytest

from runner.answer import knowledge
from runner.answer.said import Said
from runner.report import comment
from runner.report.facts import Place
from tests.lab.host import GPU_STATE
from tests.slurm.project import FLEET_WITHIN_S, FleetProject

pytestmark = [pytest.mark.fleet, pytest.mark.timeout(300)]

IDLE = {"min_gpu_util": 20, "idle_after": "5s"}
BUSY = {"utilization": 90, "used": 8 * 2**30}
# A job has of a user's variables only those that it names: by these a host process finds the stand-in for NVML.
NVML = ("PYTHONPATH", "FAKE_GPUS", "FAKE_GPU_HOST", "FAKE_GPU_STATE")
SAID = Said(
    key="1", run_id="", repository="acme/digits", commit="", job_url="", train_file="train.yml", word="/train"
)
PLACE = Place(server_url="https://github.com", repository="acme/digits", job_url="")


def test_a_gang_with_idle_gpus_on_one_host_is_stopped_and_the_comment_names_them(fleet: FleetProject) -> None:
    for host in fleet.hosts:
        seen = {f"GPU-fake-{host.name}-{number}": BUSY for number in range(2)}
        host.path(GPU_STATE).write_text(json.dumps(seen if host.name != "h1" else {}))
    fleet.write(
        "print('I live', flush=True)\nhold()",
        resources={"nodes": 3, "gpu": 2},
        policy=IDLE,
        retry={"max": 2, "on": ["node-lost", "failure"]},
        secrets=list(NVML),
    )
    done = fleet.pushtrain("run", within_s=FLEET_WITHIN_S)

    assert done.code == 1, done.output + fleet.told()
    run = fleet.run
    node = fleet.reservation(run.id).index("h1")
    why = (
        f"GPUs were idle: GPU-fake-h1- (node {node}, rank {node}) 0%, GPU-fake-h1- (node {node}, rank {node}) 0% "
        "over the last 5s; policy.min_gpu_util asks for 20%"
    )
    assert [attempt.outcome for attempt in run.attempts] == ["idle"]
    assert (run.reason, run.exit_code) == (why, 1)
    assert "resources.gpu" in run.tip
    shown = fleet.pushtrain("show", run.id).output
    assert shown.count("90% busy") == 4
    assert shown.count("0% busy") == 4 + 2
    known = knowledge.background(fleet.store, run.id)
    told = comment.body(knowledge.facts(fleet.store, run, known, said=SAID, place=PLACE, notes=()))
    assert "GPUs were idle: `GPU-fake-h1-`" in told
    assert "GPUs 60% busy, the least 0%" in told
