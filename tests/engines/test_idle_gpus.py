"""A run whose GPUs do nothing, by a stand-in for NVML: it is stopped where train.yml says so, and not started again."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.engines.project import Project

FAKES = Path(__file__).parents[1] / "fakes"
IDLE = {"min_gpu_util": 20, "idle_after": "5s"}


@pytest.mark.slow
def test_a_run_with_an_idle_gpu_is_stopped_and_says_which(local_project: Project, tmp_path: Path) -> None:
    state = tmp_path / "gpus.json"
    state.write_text(
        json.dumps({"GPU-fake-0": {"utilization": 90, "used": 60 * 2**30}, "GPU-fake-1": {"utilization": 3}})
    )
    local_project.environ.update(
        PYTHONPATH=str(FAKES), FAKE_GPUS="NVIDIA H100 80GB HBM3:2", FAKE_GPU_STATE=str(state)
    )
    local_project.write(
        "hold()", resources={"gpu": 2}, policy=IDLE, retry={"max": 2, "on": ["node-lost", "failure"]}
    )
    done = local_project.pushtrain("run")

    assert done.code == 1, done.output
    run = local_project.run
    assert len(run.attempts) == 1
    assert run.attempts[0].outcome == "idle"
    assert run.reason == (
        "GPUs were idle: GPU-fake-1 (rank 0) 3% over the last 5s; policy.min_gpu_util asks for 20%"
    )
    assert "resources.gpu" in run.tip
    shown = local_project.pushtrain("show", run.id).output
    assert re.search(r"GPUs +GPU 0 +90% busy .* memory 75% at most", shown)
    assert re.search(r"GPU 1 +3% busy .* memory 0% at most", shown)
