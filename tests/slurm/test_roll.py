"""What the hosts of a job say of themselves."""

from __future__ import annotations

from runner.slurm.allocation import last_said, said_by_hosts


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
