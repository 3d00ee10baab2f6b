"""Facts of a run -> how it stands: a kind, a mark, and one line that says it all."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Literal

from runner.quantities import format_duration
from runner.report import escape, figures
from runner.runs import State

if TYPE_CHECKING:
    from collections.abc import Iterator

    from runner.report.facts import RunFacts
    from runner.runs import Run

Kind = Literal["goes on", "succeeded", "gate", "failed", "timed out", "cancelled"]
HEADLINE_LIMIT = 160
_MARKS = {"succeeded": "✅", "gate": "❌", "failed": "❌", "timed out": "⌛", "cancelled": "⏹️"}
_GOING = {
    State.QUEUED: "🕐",
    State.PREPARING: "📦",
    State.WAITING: "⏳",
    State.RUNNING: "🔵",
    State.COLLECTING: "📥",
    State.PUBLISHING: "📥",
}
_DOING = {
    State.QUEUED: "queued",
    State.PREPARING: "preparing the environment",
    State.WAITING: "waits for its place",
    State.RUNNING: "running",
    State.COLLECTING: "collecting the outputs",
    State.PUBLISHING: "judging the metric",
}


def kind(run: Run) -> Kind:
    """How the run ended, or that it goes on; `gate` is a training that went well with a metric that did not."""
    match run.state:
        case State.SUCCEEDED:
            return "succeeded"
        case State.CANCELLED:
            return "cancelled"
        case State.FAILED:
            return _failure(run)
    return "goes on"


def _failure(run: Run) -> Kind:
    trained = bool(run.attempts) and run.attempts[-1].outcome == "succeeded"
    if trained and run.verdict and run.reason == run.verdict:
        return "gate"
    if (run.attempts and run.attempts[-1].outcome == "timeout") or run.reason.startswith("timeout."):
        return "timed out"
    return "failed"


def mark(run: Run) -> str:
    """One sign for how the run stands."""
    return _MARKS.get(kind(run)) or _GOING[run.state]


def word(run: Run) -> str:
    """How the run stands in one or two words."""
    standing = kind(run)
    return {"goes on": str(run.state), "gate": "gate failed"}.get(standing, standing)


def headline(facts: RunFacts, *, queue: str = "") -> str:
    """One line of plain text, at most 160 characters; `queue` says behind whom a run waits."""
    return escape.line(" · ".join(part for part in _headline(facts, queue) if part), HEADLINE_LIMIT)


def _headline(facts: RunFacts, queue: str) -> Iterator[str]:
    run = facts.run
    took = format_duration(round(figures.took_s(run, now_s=facts.now_s), 1))
    match kind(run):
        case "goes on":
            yield from _going(facts, queue)
        case "succeeded":
            yield _metric(facts) or "trained"
            yield _model(facts)
            yield took
        case "gate":
            yield f"gate failed: {_short(run, facts)}"
            yield took
        case "cancelled":
            yield _first_line(run.reason) or "cancelled"
            yield f"after {took}"
        case failure:
            why = cause(run) or _first_line(run.reason)
            yield f"{failure} after {took}" + (f": {why}" if why else "")


def _model(facts: RunFacts) -> str:
    """The version; where GitHub has no release of it, that it lies in the store."""
    if not facts.run.release:
        return ""
    return f"model {figures.released(facts.run)}{'' if facts.release_url else ' in the store'}"


def cause(run: Run) -> str:
    """The likely cause of a failure, without the field of train.yml that a time limit stands in."""
    known = run.attempts[-1].cause if run.attempts else ""
    return re.sub(r"^timeout\.\w+: ", "", known or (run.reason if run.reason.startswith("timeout.") else ""))


def _first_line(text: str) -> str:
    return text.strip().partition("\n")[0]


def _going(facts: RunFacts, queue: str) -> Iterator[str]:
    run = facts.run
    if run.state in (State.QUEUED, State.WAITING):
        yield queue or run.reason or _DOING[run.state]
        return
    series = figures.primary(facts)
    yield _DOING[run.state]
    in_stage_s = run.seconds_in(run.state, now_s=facts.now_s)
    yield format_duration(in_stage_s) if in_stage_s < 59.5 else format_duration(round(in_stage_s / 60) * 60)
    if series is not None:
        yield f"{series.name} {figures.brief(series.last)} (step {series.steps[-1]})"
    if run.attempt > 1:
        yield f"attempt {run.attempt}"


def _metric(facts: RunFacts) -> str:
    series = figures.primary(facts)
    if series is None:
        return ""
    return f"{series.name} {figures.brief(series.last)} {figures.bar(facts)}".strip()


def _short(run: Run, facts: RunFacts) -> str:
    """The metric and the bar that it missed; the verdict itself where there is no value to show."""
    series, bar = figures.primary(facts), figures.bar(facts)
    if series is None or not bar:
        return run.verdict
    return f"{series.name} {figures.brief(series.last)}, wanted {bar}"
