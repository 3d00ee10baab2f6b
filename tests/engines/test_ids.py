"""Ids of runs: in the order of time, however many start within a second."""

from __future__ import annotations

from runner import runs


def test_ids_of_one_second_sort_by_time() -> None:
    started_s = [1_795_000_000.0 + number / 1000 for number in range(1000)]

    made = [runs.new_id(now_s=now_s) for now_s in started_s]

    assert made == sorted(made)
    assert all(runs.is_id(run_id) for run_id in made)


def test_runs_that_start_at_one_moment_are_told_apart() -> None:
    assert len({runs.new_id(now_s=1_795_000_000.0) for _ in range(20)}) > 15
