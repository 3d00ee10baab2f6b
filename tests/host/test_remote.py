"""A host over the network: it lives through a short cut, ends what it runs after a long one, and stores what it has."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from runner import manifest
from runner.host.leash import marked_processes
from runner.store import open_store
from tests.engines.project import wait_for

from .hosting import Hosted, direct, printed, remote_host, remote_job

pytestmark = pytest.mark.timeout(120)

SAVING = """
trap 'sleep 6; echo kept >outputs/saved; exit 0' TERM
echo begun
while :; do sleep 0.1; done
"""
COUNTING = "n=0; while [ $n -lt 300 ]; do n=$((n+1)); echo line $n; sleep 0.01; done"


def of(host: Hosted) -> int:
    """The host process behind the relay."""
    (found,) = host.children()
    return found


def is_there(pid: int) -> bool:
    try:
        return "Z" not in (Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False


def stored(place: Path, name: str) -> str:
    """A file as it was mirrored."""
    folder = place / "restored"
    manifest.restore(open_store(f"file://{place}/store"), "live/", folder)
    return (folder / name).read_text() if (folder / name).exists() else ""


def test_it_says_where_it_is_and_keeps_its_things_there(tmp_path: Path) -> None:
    job = remote_job(tmp_path, *direct("pwd; echo kept >outputs/it"), scratch="/nowhere", cache="/nowhere")
    with remote_host(tmp_path) as host:
        host.train(job)
        assert host.hear("exited")["code"] == 0
    assert printed(job)().strip() == str(tmp_path / "home/scratch/run/node-0/work")
    assert stored(tmp_path, "outputs/it") == "kept\n"


def test_a_short_cut_costs_nothing(tmp_path: Path) -> None:
    job = remote_job(tmp_path, *direct(COUNTING))
    with remote_host(tmp_path, lease_s=15, silence_s=15) as host:
        host.train(job)
        os.kill(host.pid, signal.SIGSTOP)
        for _ in range(2000):
            host.channel.send("beat", told="x" * 500)  # More than a pipe holds: nobody waits for it.
        time.sleep(5)
        os.kill(host.pid, signal.SIGCONT)
        assert host.hear("exited")["code"] == 0
    assert printed(job)().splitlines() == [f"line {number}" for number in range(1, 301)]


def test_both_ends_give_up_after_a_long_cut(tmp_path: Path) -> None:
    job = remote_job(tmp_path, *direct("trap '' TERM; echo begun; while :; do sleep 0.1; done"))
    with remote_host(tmp_path, lease_s=3, silence_s=3) as host:
        host.train(job)
        wait_for(lambda: "begun" in printed(job)(), what="a rank that has begun")
        pid = of(host)
        os.kill(host.pid, signal.SIGSTOP)
        wait_for(lambda: not host.channel.alive, what="a host that is given up", within_s=10)
        wait_for(lambda: not marked_processes(job.mark), what="the end of the rank", within_s=15)
        wait_for(lambda: not is_there(pid), what="the end of the host process", within_s=15)


@pytest.mark.parametrize("order", ["signal first", "pipe first"])
def test_a_rank_has_its_grace_when_the_batch_system_ends_the_job(tmp_path: Path, order: str) -> None:
    job = remote_job(tmp_path, *direct(SAVING), grace_s=20.0)
    with remote_host(tmp_path) as host:
        host.train(job)
        wait_for(lambda: "begun" in printed(job)(), what="a rank that has begun")
        pid = of(host)
        ends = [(pid, signal.SIGTERM), (host.pid, signal.SIGKILL)]
        for whose, signum in ends if order == "signal first" else reversed(ends):
            os.kill(whose, signum)
            time.sleep(0.3)  # Not at once, as it is with a batch system.
        wait_for(lambda: not is_there(pid), what="the end of the host process", within_s=30)
    assert stored(tmp_path, "outputs/saved") == "kept\n"


def test_a_supervisor_that_died_is_not_waited_for(tmp_path: Path) -> None:
    job = remote_job(tmp_path, *direct("echo begun; sleep 100"))
    with remote_host(tmp_path, lease_s=60) as host:
        host.train(job)
        pid = of(host)
        os.kill(host.pid, signal.SIGKILL)
        wait_for(lambda: not is_there(pid), what="the end of the host process", within_s=8)
        assert not marked_processes(job.mark)


def test_an_error_says_which_host_has_it(tmp_path: Path) -> None:
    job = remote_job(tmp_path, *direct("true"), tree="1" * 40)
    (tmp_path / "home/scratch/run/node-0/work").rmdir()
    with remote_host(tmp_path) as host:
        host.channel.send("fetch", job=job.to_json())
        error = wait_for(lambda: next(iter(e for _, e in [host.inbox.get(timeout=20)] if e["event"] == "error"), None),
                         what="an error")  # fmt: skip
    assert error is not None
    assert error["message"].startswith(f"{os.uname().nodename}: ")


def test_what_a_stubborn_rank_wrote_is_stored_before_the_batch_system_kills_all(tmp_path: Path) -> None:
    script = "trap 'echo kept >outputs/saved' TERM; echo begun; while :; do sleep 0.1; done"
    job = remote_job(tmp_path, *direct(script), grace_s=100.0)
    with remote_host(tmp_path, environ={"PUSHTRAIN_KILL_WAIT_S": "5"}) as host:
        host.train(job)
        wait_for(lambda: "begun" in printed(job)(), what="a rank that has begun")
        os.kill(of(host), signal.SIGTERM)
        assert host.hear("exited", within_s=5)["signal"] == "SIGKILL"
        assert stored(tmp_path, "outputs/saved") == "kept\n"
