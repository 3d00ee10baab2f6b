"""What squeue and scontrol of several versions of Slurm print of a job or host: pure."""

from __future__ import annotations

import pytest

from runner.slurm.allocation import Fate, fate
from runner.slurm.nodes import read as read_nodes
from runner.slurm.queue import gpu_type, gpus, read
from tests.fakes.slurm import host
from tests.fleet import recordings

# Up to 23.02 (src/common/slurm_opt.c of SchedMD/slurm) and since 23.11; told as well by albanie/slurm_gpustat, pull
# request 18 (21.08), and TengdaHan/slurm_web, pull request 8.
FORMS = ("gres:gpu", "gres/gpu", "gpu")


@pytest.mark.parametrize("form", FORMS)
def test_gpus_and_their_type_are_read_in_the_words_of_any_version(form: str) -> None:
    assert (gpus(f"{form}:h100:8"), gpu_type(f"{form}:h100:8")) == (8, "h100")
    assert (gpus(f"{form}:8"), gpu_type(f"{form}:8")) == (8, "")
    assert (gpus(form), gpu_type(form)) == (1, "")
    assert (gpus(f"{form}:h100=8"), gpu_type(f"{form}:h100=8")) == (8, "h100")
    assert gpus(f"gres/shard:4,{form}:a100:2(S:0-1)") == 2


def test_nothing_else_is_taken_for_a_gpu() -> None:
    for text in ("N/A", "", "gres/shard:4", "gres:nic:1", "cpu:8"):
        assert (gpus(text), gpu_type(text)) == (0, "")


@pytest.mark.parametrize("moment", ["full", "lost", "preempt"])
def test_jobs_of_a_new_slurm_are_read_as_those_of_an_old_one(moment: str) -> None:
    text = (recordings.FOLDER / f"{moment}.squeue").read_text(errors="surrogateescape")
    assert "gres:gpu" in text
    new = read(text.replace("gres:gpu", "gres/gpu"))
    assert new == recordings.jobs(moment)
    assert any(job.gpus_per_node for job in new)


@pytest.mark.parametrize(
    ("told", "found"),
    [
        ("JobState=RUNNING Reason=None Dependency=(null) Requeue=1 Restarts=0", Fate.RUNS),
        # `scontrol requeue`, a higher priority, a lost host.
        ("JobState=COMPLETING Reason=None Dependency=(null) Requeue=1 Restarts=1", Fate.PUT_BACK),
        ("JobState=PENDING Reason=BeginTime Dependency=(null) Requeue=1 Restarts=1", Fate.PUT_BACK),
        ("JobState=RUNNING Reason=None Dependency=(null) Requeue=1 Restarts=1", Fate.PUT_BACK),
        # `scancel`
        ("JobState=COMPLETING Reason=None Dependency=(null) Requeue=1 Restarts=0", Fate.OVER),
        ("JobState=CANCELLED Reason=None Dependency=(null) Requeue=1 Restarts=0", Fate.OVER),
        ("JobState=COMPLETING Reason=TimeLimit Dependency=(null) Requeue=1 Restarts=0", Fate.TIMED_OUT),
        ("JobState=TIMEOUT Reason=None Requeue=1 Restarts=0", Fate.TIMED_OUT),
        ("JobState=COMPLETING Reason=None Requeue=1 Restarts=0 Comment=x JobState=RUNNING", Fate.OVER),
        ("", Fate.PUT_BACK),
    ],
)
def test_a_job_that_is_cancelled_is_told_from_one_that_is_put_back(told: str, found: Fate) -> None:
    """As 22.05 printed it while the batch script had SIGTERM and ended."""
    assert fate(f"JobId=7 JobName=run {told}", restarts=0) is found


@pytest.mark.parametrize(
    "state", ["IDLE+MAINTENANCE", "IDLE+INVALID_REG", "MIXED+DRAIN+INVALID_REG", "DOWN*"]
)
def test_a_host_that_slurm_gives_no_jobs_is_none_that_others_could_have(state: str) -> None:
    (found,) = read_nodes(host("h1", state=state))
    assert not found.may_take_jobs
