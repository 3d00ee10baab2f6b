"""Facts of a run -> the numbers that a report tells: durations, GPU-hours, the primary metric, base and progress."""

from __future__ import annotations

import math
from bisect import bisect_right
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from runner import metrics
from runner.metrics.verdict import show
from runner.report.plain import plain
from runner.runs import State

if TYPE_CHECKING:
    from collections.abc import Iterator

    from runner.metrics import Goal, Series
    from runner.report.facts import RunFacts
    from runner.runs import Run

Sense = Literal["better", "worse", "same", "none"]


@dataclass(frozen=True, kw_only=True)
class Change:
    """A value against the base's: `sense` is that of the metric's goal, `none` where it has no goal."""

    now: float
    before: float
    sense: Sense

    @property
    def by(self) -> float:
        """What was added."""
        return self.now - self.before


def took_s(run: Run, *, now_s: float) -> float:
    """Seconds since the run was created, up to its end."""
    end_s = run.stages[-1].started_at_s if run.stages and run.state.ended else now_s
    return max(0.0, end_s - run.created_at_s)


def stages(run: Run, *, now_s: float) -> Iterator[tuple[State, float]]:
    """Every stage that the run was in, in order, with its seconds so far."""
    for state in State:
        if not state.ended and any(stage.state is state for stage in run.stages):
            yield state, max(0.0, run.seconds_in(state, now_s=now_s))


def gpus(facts: RunFacts) -> int:
    """GPUs of the whole gang."""
    return facts.plan.gang.nodes * facts.plan.gang.gpus_per_node


def gpu_hours(facts: RunFacts) -> float:
    """GPUs of the gang times the hours in which its ranks ran."""
    return gpus(facts) * facts.run.seconds_in(State.RUNNING, now_s=facts.now_s) / 3600


def primary(facts: RunFacts) -> Series | None:
    """The series that the run is judged by; the first one where train.yml names none."""
    name = facts.plan.gate.primary
    if name is not None:
        return metrics.find(facts.series, name)
    return next(iter(facts.series.values()), None)


def base_series(facts: RunFacts, name: str) -> Series | None:
    """The base's series of that name."""
    return facts.base.series.get(name) if facts.base is not None else None


def base_value(facts: RunFacts, name: str) -> float | None:
    """The base's last value; while the run goes on, the one that it had at the step where this run is now."""
    series = base_series(facts, name)
    if series is None:
        return None
    own = facts.series.get(name)
    if facts.run.state.ended or own is None:
        return series.last
    at = bisect_right(series.steps, own.steps[-1])
    return series.values[at - 1] if at else None


def base_name(facts: RunFacts) -> str:
    """What the base is called: its branch."""
    return (facts.base.run.branch if facts.base is not None else None) or facts.plan.asked.base or "base"


def change(facts: RunFacts, series: Series) -> Change | None:
    """The series' last value against the base's; None where either is missing or not finite."""
    before = base_value(facts, series.name)
    if before is None or not (math.isfinite(before) and math.isfinite(series.last)):
        return None
    found = primary(facts)
    judged = facts.plan.gate.primary is not None and found is not None and found.name == series.name
    return Change(
        now=series.last,
        before=before,
        sense=_sense(series.last - before, facts.plan.gate.goal, judged=judged),
    )


def _sense(by: float, goal: Goal, *, judged: bool) -> Sense:
    if not judged:
        return "none"
    if by == 0:
        return "same"
    return "better" if (by > 0) == (goal == "maximize") else "worse"


def progress(facts: RunFacts) -> tuple[int, int] | None:
    """The primary metric's step, and the one at which the base ended; None where there is nothing to tell."""
    series = primary(facts)
    base = base_series(facts, series.name) if series is not None else None
    if series is None or base is None or not 0 < base.steps[-1] >= series.steps[-1] >= 0:
        return None
    return series.steps[-1], base.steps[-1]


def bar(facts: RunFacts) -> str:
    """The gate in signs: `≥ base 0.968 - 0.01`, `≥ 0.9`; empty where train.yml sets none, or the base has no value."""
    gate, series = facts.plan.gate, primary(facts)
    if gate.operator is None or series is None:
        return ""
    sign = {"<": "≥", "<=": ">", ">": "≤", ">=": "<"}[gate.operator]
    if not gate.relative:
        return f"{sign} {brief(gate.offset)}"
    base = base_series(facts, series.name)
    if base is None or not math.isfinite(base.last):
        return ""
    offset = f" {'-' if gate.offset < 0 else '+'} {brief(abs(gate.offset))}" if gate.offset else ""
    return f"{sign} base {brief(base.last)}{offset}"


def released(run: Run) -> str:
    """The model version as its tag is named, such as `digits@v1.3.0`; empty where there is none."""
    name, at, version = (run.release or "").partition("@")
    return f"{name}{at}v{version.removeprefix('v')}" if at else ""


def brief(value: float, digits: int = 4) -> str:
    """A metric's value to be read in passing: four significant digits, more where thousands need them."""
    return f"{value:.{digits}g}" if abs(value) < 1_000 else show(value)


def measured(run: Run) -> str:
    """The primary metric of a run on one line, such as `accuracy 0.97`; empty where there is none."""
    return f"{plain(run.metric[0])} {brief(run.metric[1])}" if run.metric else ""
