"""Starts of the agent that fail on a host of the lab, and the ones after them."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.lab import Lab
from tests.lab.host import Host

pytestmark = [pytest.mark.fleet, pytest.mark.timeout(300)]

TAKES_SLURMDS_PORT = """
import socket, sys
listener = socket.create_server(("0.0.0.0", 6818))
print("taken", flush=True)
sys.stdin.read()
"""


def start(host: Host, *words: str) -> subprocess.CompletedProcess[str]:
    return host.run("pushtrain", "agent", "start", *words, check=False, timeout_s=120)


@contextmanager
def taken(host: Host) -> Iterator[None]:
    """Slurmd's port is another program's, while the block lasts."""
    other = host.popen("python3", "-c", TAKES_SLURMDS_PORT, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert other.stdout is not None
    other.stdout.readline()
    try:
        yield
    finally:
        other.communicate()


def test_a_start_that_failed_does_not_stand_in_the_way_of_the_next(bare_lab: Lab) -> None:
    head = bare_lab.host("h0")
    with taken(head):
        for _ in range(2):
            failed = start(head, "--head")
            assert failed.returncode == 72, failed.stderr
            assert "TCP port 6818 for slurmd: python3 (process" in failed.stderr
        assert not head.path("/var/lib/pushtrain").exists(), "nothing is started or written"
    assert [head.pids(name) for name in ("munged", "slurmctld", "slurmd")] == [[], [], []]
    head.run("sh", "-c", "mkdir -p /run/pushtrain; ln -s /nowhere /run/pushtrain/slurmd")
    failed = start(head, "--head")
    assert "slurmd does not stay up" in failed.stderr
    assert "in use" not in failed.stderr
    head.run("rm", "/run/pushtrain/slurmd")
    done = start(head, "--head", "--cpus", "1")
    assert done.returncode == 0, done.stderr
    said = head.run(
        "sinfo", "-hN", "-p", "p50", "-o", "%N %c", environ={"SLURM_CONF": "/run/pushtrain/slurm.conf"}
    )
    assert said.stdout.split() == ["h0", "1"]


def test_what_is_more_than_there_is_starts_nothing(bare_lab: Lab) -> None:
    head = bare_lab.host("h0")
    for words, said in (
        (("--cpus", "9999"), "--cpus 9999: expected 1 to "),
        (("--memory", "9999TiB"), "which is what this machine has"),
    ):
        failed = start(head, "--head", *words)
        assert failed.returncode == 64, failed.stderr
        assert said in failed.stderr
    assert head.pids("munged") == []
    assert not head.path("/var/lib/pushtrain").exists()
    failed = head.run("pushtrain", "agent", "drain", "h1", check=False, timeout_s=10)
    assert "no agent was started on this machine" in failed.stderr
