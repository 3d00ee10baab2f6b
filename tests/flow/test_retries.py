"""Which attempts use up a run's `retry:`: pure."""

from __future__ import annotations

from runner.again import own_ends
from runner.errors import Displaced, EngineError
from runner.runs import Attempt


def attempt(number: int, outcome: str, code: int) -> Attempt:
    return Attempt(number=number, started_at_s=0.0, outcome=outcome, exit_code=code)


def test_attempts_whose_hosts_slurm_gave_to_others_use_up_no_retry() -> None:
    """A week on a busy fleet: a run that was preempted ten times may still lose a host, or fail once."""
    preempted = tuple(attempt(number, "lost", Displaced.exit_code) for number in range(1, 11))
    lost = attempt(11, "lost", EngineError.exit_code)
    timed_out = attempt(12, "timeout", Displaced.exit_code)
    assert own_ends((*preempted, lost, timed_out)) == (lost, timed_out)
