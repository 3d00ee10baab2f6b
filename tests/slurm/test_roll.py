"""What the hosts of a job say of themselves."""

from __future__ import annotations

from runner.slurm.allocation import said_by_hosts


def test_a_host_that_was_cut_off_within_its_line_said_nothing() -> None:
    assert said_by_hosts('srun: warning\n{"host": "h1"}\n{"host": "h2", "gpus": ["GPU-') == [{"host": "h1"}]
