"""What attempts use up of a run's `retry:` and of its GPU-hours: pure."""

from __future__ import annotations

from dataclasses import replace

from runner.again import left, own_ends
from runner.errors import Displaced, EngineError
from runner.plan import Limits
from runner.runs import Attempt

LIMITS = Limits(queue_s=None, run_s=3600.0, silence_s=None, grace_s=5.0)


def attempt(number: int, outcome: str, code: int) -> Attempt:
    return Attempt(number=number, started_at_s=0.0, outcome=outcome, exit_code=code)


def test_attempts_whose_hosts_slurm_gave_to_others_use_up_no_retry() -> None:
    """A week on a busy fleet: a run that was preempted ten times may still lose a host, or fail once."""
    preempted = tuple(attempt(number, "lost", Displaced.exit_code) for number in range(1, 11))
    lost = attempt(11, "lost", EngineError.exit_code)
    timed_out = attempt(12, "timeout", Displaced.exit_code)
    assert own_ends((*preempted, lost, timed_out)) == (lost, timed_out)


def test_an_attempt_has_what_those_before_it_left_of_the_gpu_hours_and_its_own_time_limit() -> None:
    preempted = Attempt(number=1, started_at_s=1000.0, ended_at_s=2000.0, outcome="lost")
    unnoticed = Attempt(number=2, started_at_s=5000.0)
    third = Attempt(number=3, started_at_s=5500.0)
    limits = replace(LIMITS, budget_s=1800.0)
    assert left(limits, (preempted,)) == limits
    assert left(limits, (preempted, unnoticed)) == replace(limits, budget_s=800.0)
    assert left(limits, (preempted, unnoticed, third)) == replace(limits, budget_s=300.0)
    assert left(replace(limits, budget_s=900.0), (preempted, unnoticed)).budget_s == 0.0
    assert left(LIMITS, (preempted, unnoticed)) == LIMITS
