"""How busy the GPUs of a job are, as its host process tells."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

FAKES = Path(__file__).parents[1] / "fakes"
USE = """
import dataclasses, json, sys
from runner.host.gpu_use import use
seen = use(frozenset(sys.argv[1:]))
print(json.dumps({uuid: dataclasses.asdict(each) for uuid, each in seen.items()}))
"""
WATCH = """
import time
from runner.host.gpu_use import GpuUse
seen = GpuUse(every_s=0.01)
assert seen.told() == {}
seen.watch(("GPU-fake-0",))
while not (told := seen.told()):
    time.sleep(0.01)
assert told == {"gpu_util": {"GPU-fake-0": 0.0}}, told
assert {uuid: (each.busy, each.memory) for _, seen in seen.looks() for uuid, each in seen.items()} == {
    "GPU-fake-0": (0.0, 0.0)
}
seen.watch(())
assert seen.told() == {} and seen.looks() == ()
"""

UNREAD = """
import time
from runner.host.gpu_use import GpuUse
seen = GpuUse(every_s=0.01)
seen.watch(("GPU-fake-0", "MIG-fake-0-0"))
while not (told := seen.told().get("gpu_unread")):
    time.sleep(0.01)
print(told)
"""


def run(program: str, *arguments: str, gpus: str, state: Path | None = None) -> str:
    environ = {**os.environ, "PYTHONPATH": str(FAKES), "FAKE_GPUS": gpus}
    if state is not None:
        environ["FAKE_GPU_STATE"] = str(state)
    command = [sys.executable, "-c", program, *arguments]
    return subprocess.run(command, env=environ, text=True, capture_output=True, check=True, timeout=60).stdout


def test_only_the_gpus_of_the_job_are_looked_at(tmp_path: Path) -> None:
    state = tmp_path / "state.json"
    state.write_text(json.dumps({"GPU-fake-1": {"utilization": 42, "used": 20 * 2**30}}))
    told = run(USE, "GPU-fake-1", "GPU-other", gpus="NVIDIA H100 80GB HBM3:2", state=state)
    assert json.loads(told) == {"GPU-fake-1": {"busy": 0.42, "memory": 0.25}}


def test_mig_instances_tell_of_their_memory_alone() -> None:
    told = json.loads(run(USE, "MIG-fake-0-0", gpus="NVIDIA A100-SXM4-40GB:1/1g.5gb*2"))
    assert told == {"MIG-fake-0-0": {"busy": None, "memory": 0.0}}


def test_a_job_is_told_of_its_gpus_until_it_ends() -> None:
    run(WATCH, gpus="NVIDIA H100 80GB HBM3:1")


@pytest.mark.parametrize(
    ("gpus", "why"),
    [
        ("", "no NVIDIA driver there knows the GPUs of the run"),
        ("mismatch", "The NVIDIA driver does not answer: "),
        ("NVIDIA H100 80GB HBM3:1", "the driver does not tell it of MIG-fake-0-0"),
    ],
)
def test_a_host_that_cannot_tell_says_why(gpus: str, why: str) -> None:
    assert run(UNREAD, gpus=gpus).startswith(f"{socket.gethostname()}: {why}")
