"""Slurm itself calls the epilog and is told of faults: on a host of the lab, with its agent."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from tests.lab import Lab
from tests.lab.host import Host

pytestmark = [pytest.mark.fleet, pytest.mark.timeout(300)]

RUN = "20261122-060000-aaaa"
CONF = {"SLURM_CONF": "/run/pushtrain/slurm.conf"}
LEAVES = f"""#!/bin/sh
until [ -e "$GO" ]; do sleep 0.1; done
setsid sleep 3001 </dev/null >/dev/null 2>&1 &
env -i PUSHTRAIN_MARK={RUN}:0:1:x setsid sleep 3002 </dev/null >/dev/null 2>&1 &
"""


@pytest.fixture
def host(bare_lab: Lab) -> Host:
    """The head of a fleet of one."""
    one = bare_lab.host("h0")
    told = {"PUSHTRAIN_PASS": "FAKE_GPUS FAKE_GPU_STATE FAKE_GPU_MINORS FAKE_GPU_HOST"}
    one.run("pushtrain", "agent", "start", "--head", environ=told)
    return one


def says(host: Host, state: dict[str, object]) -> None:
    """What the host's fake GPUs tell from now on."""
    host.run("sh", "-c", 'cat >"$FAKE_GPU_STATE"', given=json.dumps(state))


def health(host: Host) -> str:
    """How Slurm has the host after a check."""
    host.run("/run/pushtrain/health", environ={"SLURMD_NODENAME": "h0"})
    return host.run("scontrol", "show", "node", "h0", environ=CONF).stdout


def until_running(host: Host) -> None:
    deadline_s = time.monotonic() + 60
    while not host.run("squeue", "--noheader", "--states=running", environ=CONF).stdout:
        assert time.monotonic() < deadline_s
        time.sleep(0.1)


def until_empty(host: Host) -> None:
    deadline_s = time.monotonic() + 60
    while host.run("squeue", "--noheader", environ=CONF).stdout:
        assert time.monotonic() < deadline_s
        time.sleep(0.1)


def test_a_host_ends_what_its_job_left_and_says_whether_it_is_well(host: Host, tmp_path: Path) -> None:
    bystander = host.popen("sleep", "3003")
    deadline_s = time.monotonic() + 10
    while not (found := host.run("pgrep", "-f", "^sleep 3003", check=False).stdout.split()):
        assert time.monotonic() < deadline_s
        time.sleep(0.05)
    script = tmp_path / "leaves"
    script.write_text(LEAVES)
    go = tmp_path / "go"
    asked = ("--gres=gpu:2", "-o", "/dev/null", f"--export=GO={go}", str(script))
    host.run("sbatch", "-J", RUN, *asked, environ=CONF)
    until_running(host)
    # On the GPU of a host without a job it would keep the job away.
    says(host, {"GPU-fake-h0-1": {"processes": {found[0]: 1}}})
    go.touch()
    until_empty(host)
    log = host.run("cat", "/run/pushtrain/strangers.log").stdout
    ended = [json.loads(line) for line in log.splitlines()]
    assert [(left["job"], left["run"], left["gpu"]) for left in ended] == [
        ("1", "", ""),
        ("", RUN, ""),
        ("", "", "GPU-fake-h0-1"),
    ]
    assert host.run("pgrep", "-f", "^sleep 300", check=False).stdout == ""
    bystander.wait(timeout=10)

    says(host, {"GPU-fake-h0-1": {"fault": "lost"}})
    assert "Reason=pushtrain: GPU 1: GPU is lost; reboot the host" in health(host)
    says(host, {})
    assert "DRAIN" not in health(host)
    host.run("scontrol", "update", "nodename=h0", "state=drain", "reason=new cooler", environ=CONF)
    assert "Reason=new cooler" in health(host)
