"""What runs on a host for no job is ended before its GPUs are offered again, and nothing else is."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from runner.agent import epilog
from runner.agent.leftovers import Left
from runner.agent.strangers import Here, is_foreign, is_stray
from runner.slurm.allocated import given, of_gres
from tests.agent.scene import NODE, STUBBORN, Host, heads_clock

RUN = "20261122-060000-aaaa"
MARK = f"{RUN}:0:1:feed"
HERE = Here(ids=frozenset({"7"}), names=frozenset({RUN}), gpus=frozenset({0}))
UUIDS = ("GPU-0", "GPU-1")
ENDED = (-signal.SIGTERM, -signal.SIGKILL)


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    if os.geteuid() != 0:
        pytest.skip("a PID namespace needs root")
    made = Host.made(tmp_path)
    yield made
    made.close()


def container(*, job: str = "", mark: str = MARK) -> Left:
    return Left(kind="container", id="c", name="c", run=RUN, mark=mark, job=job)


def process(*, job: str = "", mark: str = "", gpu: str = "", name: str = "python") -> Left:
    return Left(kind="process", id="1", name=name, run=mark.partition(":")[0], mark=mark, job=job, gpu=gpu)


@pytest.mark.parametrize(
    ("left", "here", "held", "stray"),
    [
        (container(job="7"), HERE, [], False),
        (container(job="8"), HERE, [], True),
        (container(job="8"), HERE, [MARK], True),
        (container(job="8"), None, [MARK], False),
        (container(job="8"), None, [], True),
        (container(), HERE, [], False),
        (container(mark="other:0:1:"), HERE, [], False),
        (process(mark="20200101-000000-bbbb:0:1:x"), HERE, [], True),
        (process(mark="20200101-000000-bbbb:0:1:x"), HERE, ["20200101-000000-bbbb:0:1:x"], False),
        (process(mark=MARK), HERE, [], False),
        (process(mark=MARK), None, [], True),
        (process(job="8"), HERE, [], False),
    ],
)
def test_only_what_no_job_and_no_host_process_answers_for_is_a_stray(
    left: Left, here: Here | None, held: list[str], stray: bool
) -> None:
    assert is_stray(left, here, held) is stray


@pytest.mark.parametrize(
    ("left", "here", "foreign"),
    [
        (process(gpu="GPU-1"), HERE, True),
        (process(gpu="GPU-0"), HERE, False),
        (process(gpu="GPU-1", job="7"), HERE, False),
        (process(gpu="GPU-1", job="8"), HERE, True),
        (process(gpu="GPU-1", mark=MARK), HERE, False),
        (process(gpu="GPU-1", name="nvidia-cuda-mps"), HERE, False),
        (process(gpu="GPU-1"), None, False),
        (process(gpu="GPU-not-offered"), HERE, False),
    ],
)
def test_a_process_on_a_gpu_that_no_job_holds_is_foreign(
    left: Left, here: Here | None, foreign: bool
) -> None:
    assert is_foreign(left, here, UUIDS) is foreign


def test_slurms_numbers_of_gpus_are_read_with_their_ranges() -> None:
    assert of_gres("gpu:h100:3(IDX:0-1,3),gpu:v100:1(IDX:5)") == (0, 1, 3, 5)
    assert of_gres("") == of_gres("license:1(IDX:2)") == of_gres("gpu:h100:0(IDX:N/A)") == ()
    assert given({"SLURM_JOB_GPUS": "0,1,3-5"}) == (0, 1, 3, 4, 5)
    assert given({"SLURM_JOB_GPUS": "0,1", "SLURM_STEP_GPUS": "1"}) == (1,)
    assert given({}) == ()


def test_a_jobs_gpus_are_known_by_their_numbers() -> None:
    assert epilog.gpus_of({"SLURM_JOB_GPUS": "1"}, UUIDS) == {"GPU-1"}
    assert epilog.gpus_of({}, UUIDS) == epilog.gpus_of({"SLURM_JOB_GPUS": "0"}, ()) == frozenset()


def test_the_epilog_ends_what_the_job_left_and_nothing_of_another(host: Host) -> None:
    host.cluster(("7", RUN, ""), ("8", "other", ""))
    of_job, marked = host.process(SLURM_JOB_ID="7"), host.process(STUBBORN, PUSHTRAIN_MARK=MARK)
    other = host.process(SLURM_JOB_ID="8")
    done = host.program("epilog", SLURM_JOB_ID="7", SLURMD_NODENAME=NODE)
    assert done.returncode == 0, done.stderr
    assert of_job.code() in ENDED
    assert marked.code() == -signal.SIGKILL
    assert other.runs
    assert {left["id"] for left in host.strangers()} == {str(of_job.pid), str(marked.pid)}
    assert {left["by"] for left in host.strangers()} == {"epilog of job 7"}
    assert (host.run / "strangers-ended").read_text() == "2\n"


def test_the_epilog_ends_whatever_computes_on_the_gpus_that_the_job_had(host: Host) -> None:
    on_its, on_another = host.process(), host.process()
    host.gpus(
        {"GPU-fake-0": {"processes": {on_another.pid: 1}}, "GPU-fake-1": {"processes": {on_its.pid: 1}}}
    )
    done = host.program("epilog", SLURM_JOB_ID="7", SLURM_JOB_GPUS="1", SLURMD_NODENAME=NODE)
    assert done.returncode == 0, done.stderr
    assert on_its.code() in ENDED
    assert on_another.runs
    assert [left["gpu"] for left in host.strangers()] == ["GPU-fake-1"]


def test_what_was_on_a_jobs_gpu_before_it_began_is_not_ended_and_drains_the_host(host: Host) -> None:
    host.cluster(("7", RUN, ""), began="2100-01-01T00:00:00")
    before, of_job = host.process(), host.process(SLURM_JOB_ID="7")
    host.gpus({"GPU-fake-1": {"processes": {before.pid: 1, of_job.pid: 1}}})
    done = host.program("epilog", SLURM_JOB_ID="7", SLURM_JOB_GPUS="1", SLURMD_NODENAME=NODE)
    assert done.returncode == 1, done.stderr
    assert of_job.code() in ENDED
    assert before.runs
    assert host.node["state"] == "IDLE+DRAIN"
    assert f"process {before.pid} (" in host.node["reason"]
    assert "GPU-fake-1" in host.node["reason"]


def test_when_a_job_began_is_the_heads_time_and_not_this_hosts(host: Host) -> None:
    with heads_clock() as (port, head):
        host.is_member(head_port=port)
        head.late_s = 3600.0
        before = host.process()
        began = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(time.time() - head.late_s + 20))
        host.cluster(("7", RUN, ""), began=began)
        host.gpus({"GPU-fake-1": {"processes": {before.pid: 1}}})
        done = host.program("epilog", SLURM_JOB_ID="7", SLURM_JOB_GPUS="1", SLURMD_NODENAME=NODE)
    assert done.returncode == 1, done.stderr
    assert before.runs
    assert f"process {before.pid} (" in host.node["reason"]


def test_what_came_to_a_jobs_gpu_after_it_began_is_ended(host: Host) -> None:
    host.cluster(("7", RUN, ""), began="2020-01-01T00:00:00")
    after = host.process()
    host.gpus({"GPU-fake-1": {"processes": {after.pid: 1}}})
    done = host.program("epilog", SLURM_JOB_ID="7", SLURM_JOB_GPUS="1", SLURMD_NODENAME=NODE)
    assert done.returncode == 0, done.stderr
    assert after.code() in ENDED


def test_the_epilog_leaves_a_run_that_another_job_has_taken_up(host: Host) -> None:
    host.cluster(("7", RUN, ""), ("9", RUN, ""))
    marked = host.process(PUSHTRAIN_MARK=MARK)
    assert host.program("epilog", SLURM_JOB_ID="7", SLURMD_NODENAME=NODE).returncode == 0
    assert marked.runs


def test_an_epilog_of_a_job_that_left_nothing_is_quick_and_says_nothing(host: Host) -> None:
    assert host.program("epilog", SLURM_JOB_ID="7", SLURMD_NODENAME=NODE).returncode == 0
    assert host.strangers() == []


def test_before_a_host_offers_gpus_marked_processes_of_no_job_are_ended(host: Host) -> None:
    host.cluster(("7", RUN, "gpu:x:1(IDX:0)"))
    running = host.process(PUSHTRAIN_MARK=MARK)
    stray = host.process(PUSHTRAIN_MARK="20200101-000000-bbbb:0:1:x")
    done = host.program("strangers", NODE)
    assert done.returncode == 0, done.stderr
    assert stray.code() in ENDED
    assert running.runs
    assert [left["id"] for left in json.loads(done.stdout)["ended"]] == [str(stray.pid)]
    assert (host.run / "strangers-ended").read_text() == "1\n"


def test_while_slurmctld_is_away_what_a_host_process_answers_for_is_left_alone(host: Host) -> None:
    host.slurmctld_dies()
    held, orphan = (
        host.process(PUSHTRAIN_MARK=MARK),
        host.process(PUSHTRAIN_MARK="20200101-000000-bbbb:0:1:x"),
    )
    host.guardian(MARK)
    done = host.program("strangers", NODE)
    assert done.returncode == 0, done.stderr
    assert orphan.code() in ENDED
    assert held.runs


def test_a_foreign_process_is_ended_where_the_agent_may_evict(host: Host) -> None:
    foreign = host.process(STUBBORN)
    host.gpus({"GPU-fake-1": {"processes": {foreign.pid: 1}}})
    assert host.program("strangers", NODE, "--evict").returncode == 0
    assert foreign.code() == -signal.SIGKILL
    assert host.node["state"] == "IDLE"


def test_a_foreign_process_on_a_gpu_that_a_job_holds_is_that_jobs(host: Host) -> None:
    host.cluster(("7", RUN, "gpu:x:1(IDX:1)"))
    theirs = host.process()
    host.gpus({"GPU-fake-1": {"processes": {theirs.pid: 1}}})
    assert host.program("strangers", NODE, "--evict").returncode == 0
    assert theirs.runs
