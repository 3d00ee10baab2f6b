"""What sbatch is told of a run, and when a job that Slurm puts back again and again is given up: no cluster."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import replace

from runner.engines.tending import in_vain
from runner.place import Gang
from runner.runs import Attempt
from runner.slurm import submission
from runner.slurm.queue import Job
from runner.slurm.submission import Wish
from runner.store import open_store
from tests.flow import made

RUN = "20260101-000000-aaaa"


def wish(*after: str) -> Wish:
    return Wish(
        run_id=RUN,
        comment="pushtrain digits acme/digits",
        gang=Gang(nodes=2, gpus_per_node=4),
        gres_type=None,
        features=(),
        priority=50,
        limit_s=None,
        after=after,
    )


def test_two_jobs_of_one_run_are_never_there_at_once() -> None:
    assert "--dependency=singleton" in submission.options(wish(), names=())
    assert "--dependency=singleton,afterany:7,afterany:9" in submission.options(wish("7", "9"), names=())


def test_variables_are_named_and_their_values_are_nowhere() -> None:
    told = submission.options(wish(), names={"API_TOKEN": "tok-5f2a9c71", "PUSHTRAIN_STORE": "s3://runs"})
    assert "--export=API_TOKEN,PUSHTRAIN_STORE" in told
    assert not [word for word in told if "tok-" in word or "s3:" in word]
    assert "--export=NIL" in submission.options(wish(), names=())


@pytest.mark.parametrize(("restarts", "attempts", "times"), [(30, 30, 0), (30, 2, 28), (0, 3, -3)])
def test_starts_of_a_job_after_which_the_run_trained_were_not_in_vain(
    tmp_path: Path, restarts: int, attempts: int, times: int
) -> None:
    """A run of low priority is preempted day and night, and trains all the same."""
    run = made.run(open_store(str(tmp_path)), RUN)
    trained = tuple(Attempt(number=number + 1, started_at_s=0.0) for number in range(attempts))
    assert in_vain(replace(run, attempts=trained), job(restarts)) == times


def job(restarts: int) -> Job:
    return Job(
        id="7",
        name=RUN,
        state="PENDING",
        reason="Priority",
        priority=1,
        partition="p50",
        user="root",
        nodes=2,
        hosts="",
        gpus_per_node=4,
        submitted_at_s=0.0,
        starts_at_s=None,
        restarts=restarts,
        comment="pushtrain digits",
        features="",
    )
