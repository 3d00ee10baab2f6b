"""A plan's gang, a run's attempts -> a few words of plain text for people: pure."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from runner.plan import Plan
    from runner.runs import Attempt, Run

CAUSE_LIMIT = 200
_TASKS = {"ps": "parameter server"}
_ENDS = {"timeout": "timed out", "idle": "stopped", "": "running"}


def shape(plan: Plan) -> str:
    """`2 nodes x 2 ranks, mpi`; of one node the ranks alone, without a distribution no name of one."""
    gang, distribution = plan.gang, plan.distribution
    if gang.nodes * gang.processes_per_node == 1:
        return ", ".join(filter(None, ("1 process", kind(plan))))
    nodes = f"{gang.nodes} nodes x " if gang.nodes > 1 else ""
    if distribution.elastic and distribution.min_nodes < gang.nodes:
        nodes = f"{distribution.min_nodes} to {nodes}"
    return ", ".join(filter(None, (nodes + _counted(gang.processes_per_node, "rank"), kind(plan))))


def kind(plan: Plan) -> str:
    """The distribution, with TensorFlow's tasks: `tensorflow (1 chief, 2 workers)`; empty where there is none."""
    distribution = plan.distribution
    if distribution.type == "none":
        return ""
    tasks = Counter(task.partition(" ")[0] for task in distribution.tasks)
    told = ", ".join(_counted(count, _TASKS.get(task, task)) for task, count in tasks.items())
    return f"{distribution.type} ({told})" if told else distribution.type


def attempts(run: Run) -> Iterator[str]:
    """A sentence for each attempt; nothing where the run's own reason tells all of its only one."""
    if len(run.attempts) > 1:
        yield from (f"{attempt.number} {_told(attempt, run)}" for attempt in run.attempts)


def ranks_at_last(run: Run) -> str:
    """`3 of 4 ranks` where the last attempt had fewer than were planned; else empty."""
    ranks = run.attempts[-1].world_size if run.attempts else None
    return f"{ranks} of {_counted(run.world_size, 'rank')}" if ranks and ranks < run.world_size else ""


def who(attempt: Attempt) -> str:
    """The process that failed first, `rank 3 (node 1, worker 1)` or `mpirun`; empty where none did."""
    where = "" if attempt.failed_node is None else f"node {attempt.failed_node}"
    if attempt.failed_rank is None:
        return " on ".join(filter(None, (attempt.failed_task, where))) if attempt.failed_task else ""
    places = ", ".join(filter(None, (where, attempt.failed_task)))
    return f"rank {attempt.failed_rank}" + (f" ({places})" if places else "")


def _told(attempt: Attempt, run: Run) -> str:
    parts = [": ".join(filter(None, (_ENDS.get(attempt.outcome, attempt.outcome), _why(attempt))))]
    if attempt.world_size and attempt.world_size < run.world_size:
        parts.append(f"with {attempt.world_size} of {_counted(run.world_size, 'rank')}")
    if attempt.steps_lost:
        parts.append(f"{_counted(attempt.steps_lost, 'step')} done again")
    return "; ".join(parts)


def _why(attempt: Attempt) -> str:
    if attempt.outcome in ("", "succeeded"):
        return ""
    how = f"was ended by {attempt.signal}" if attempt.signal else f"ended with exit code {attempt.exit_code}"
    first = f"{who(attempt)} {how}" if who(attempt) else ""
    cause = " ".join(attempt.cause.split())
    cut = cause if len(cause) <= CAUSE_LIMIT else f"{cause[: CAUSE_LIMIT - 1]}…"
    return ": ".join(filter(None, (first, cut)))


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}{'s' * (count != 1)}"
