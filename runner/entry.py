"""Plan -> the run's `run.json` in its first state."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from runner import launch, runs

if TYPE_CHECKING:
    from runner.plan import Plan
    from runner.runs import Run
    from runner.store import Store


def enter(store: Store, plan: Plan, run_id: str) -> Run:
    """Make the run visible. Safe to repeat: a run that is there already is returned as it stands."""
    asked, gang = plan.asked, plan.gang
    run = runs.Run(
        id=run_id,
        name=plan.name,
        engine=plan.engine,
        plan_hash=plan.hash,
        state=runs.State.QUEUED,
        created_at_s=time.time(),
        branch=asked.branch,
        commit=asked.commit,
        dirty=asked.dirty,
        inputs=dict(plan.inputs),
        world_size=gang.nodes * gang.processes_per_node,
        launchers=launch.launchers(plan),
        model=plan.release.model if plan.release else None,
        isolated=plan.isolated,
        group=plan.group,
    )
    return runs.create(store, run)
