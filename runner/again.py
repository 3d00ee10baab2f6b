"""How attempts ended, and `retry:` of train.yml -> whether the gang is started once more, and for how long: pure."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING

from runner.errors import Displaced

if TYPE_CHECKING:
    from runner.gang import Outcome
    from runner.plan import Limits, Retries
    from runner.runs import Attempt

# As often as this a run on a fleet is started again after a lost host, whatever its `retry:` says.
LOST_TIMES = 10


def again(outcome: Outcome, retries: Retries, attempts: tuple[Attempt, ...], *, on_fleet: bool) -> bool:
    """Whether to start once more after that `outcome` of the last of the `attempts`."""
    most = retries.max
    lost = outcome.kind == "lost" and "node-lost" in retries.on
    if outcome.kind == "lost" and on_fleet:  # Where hosts come and go that is no failure of the run.
        lost, most = True, max(most, LOST_TIMES)
    wanted = lost or (outcome.kind == "failed" and outcome.code in retries.exit_codes)
    return wanted and len(own_ends(attempts)) <= most


def own_ends(attempts: tuple[Attempt, ...]) -> tuple[Attempt, ...]:
    """The attempts that did not end because Slurm gave their hosts to others: those use up no `retry:`."""
    return tuple(each for each in attempts if (each.outcome, each.exit_code) != ("lost", Displaced.exit_code))


def left(limits: Limits, attempts: tuple[Attempt, ...]) -> Limits:
    """The limits of the last of the `attempts`: those before it have used up a part of what is for all together."""
    if limits.budget_s is None:
        return limits
    # One whose end nobody wrote down was over when the next began.
    used_s = sum(
        (each.ended_at_s or after.started_at_s) - each.started_at_s for each, after in pairwise(attempts)
    )
    return replace(limits, budget_s=max(0.0, limits.budget_s - used_s))
