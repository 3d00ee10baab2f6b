"""What the hosts of a job say of themselves."""

from __future__ import annotations

import pytest

from runner.errors import EngineError
from runner.slurm.allocation import last_said, said_by_hosts
from runner.slurm.roll import chosen

HOST = tuple((f"GPU-{number}", "NVIDIA A100") for number in range(4))


def test_a_host_that_was_cut_off_within_its_line_said_nothing() -> None:
    assert said_by_hosts('srun: warning\n{"host": "h1"}\n{"host": "h2", "gpus": ["GPU-') == [{"host": "h1"}]


def test_a_program_that_breaks_on_a_host_is_told_by_its_last_words() -> None:
    broken = """Traceback (most recent call last):
  File "roll.py", line 59, in main
    raise DockerAway(
runner.errors.DockerAway: Docker does not answer
srun: error: h1: task 1: Exited with exit code 1
"""
    assert last_said(broken) == (
        "runner.errors.DockerAway: Docker does not answer; srun: error: h1: task 1: Exited with exit code 1"
    )
    assert last_said("") == "they said nothing"


def test_slurms_numbers_mean_the_gpus_of_the_host_in_their_order() -> None:
    assert chosen((1, 2), HOST, confined=False) == (HOST[1], HOST[2])


def test_where_a_job_sees_its_own_gpus_alone_those_are_what_it_was_given() -> None:
    assert chosen((1, 2), HOST[1:3], confined=True) == HOST[1:3]
    assert chosen((0, 1, 2, 3), HOST, confined=True) == HOST


def test_a_number_that_no_gpu_has_is_told_and_no_gpu_is_taken_for_it() -> None:
    with pytest.raises(EngineError, match=r"Slurm gave the GPUs 1, 4, counted from 0, and 4 are seen here"):
        chosen((1, 4), HOST, confined=False)


def test_where_no_gpu_can_be_told_from_another_slurms_numbers_are_taken() -> None:
    assert chosen((1, 2), (), confined=False) == (("1", ""), ("2", ""))
