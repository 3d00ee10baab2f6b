"""Facts of a run -> what its check says: a title of one line, a summary, and the rest below it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from runner.report import escape, limits, measures, sections, standing
from runner.report.limits import must, part
from runner.runs import State

if TYPE_CHECKING:
    from runner.report.facts import RunFacts

Status = Literal["queued", "in_progress", "completed"]
Conclusion = Literal["success", "failure", "cancelled", "timed_out"]


@dataclass(frozen=True, kw_only=True)
class CheckText:
    """`title` is plain text of at most 160 characters, the others are Markdown of at most 65,535 bytes."""

    title: str
    summary: str
    text: str


def state(facts: RunFacts) -> tuple[Status, Conclusion | None]:
    """Status and conclusion: `success` only of a run that succeeded, which is one whose gate passed."""
    run = facts.run
    match standing.kind(run):
        case "goes on":
            waits = run.state in (State.QUEUED, State.WAITING)
            return ("queued" if waits else "in_progress"), None
        case "succeeded":
            return "completed", "success"
        case "cancelled":
            return "completed", "cancelled"
        case "timed out":
            return "completed", "timed_out"
    return "completed", "failure"


def output(facts: RunFacts, *, queue: str = "") -> CheckText:
    """What the check says; `queue` tells behind whom the run waits, if it does."""
    return CheckText(
        title=standing.headline(facts, queue=queue), summary=_summary(facts, queue), text=_text(facts)
    )


def _elsewhere(facts: RunFacts) -> str:
    return f"All of it: {escape.code(f'pushtrain show {facts.run.id}')}"


def _summary(facts: RunFacts, queue: str) -> str:
    parts = (
        must(sections.about(facts)),
        must(sections.reused(facts)),
        must(sections.outcome(facts)),
        part("the place in the queue", 9, f"⏳ {escape.inline(queue)}" if queue else ""),
        part("progress", 9, sections.progress(facts)),
        part("notes", 8, sections.notes(facts)),
        part("attempts", 8, sections.attempts(facts)),
        part("metrics", 8, *(measures.table(facts, most) for most in (12, 6, 3))),
        part("the curve", 3, measures.curve(facts)),
        part("the time of each stage", 6, sections.duration_table(facts)),
        must(sections.footer(facts)),
    )
    return limits.fit(parts, limits.CHECK_BYTES, elsewhere=_elsewhere(facts))


def _text(facts: RunFacts) -> str:
    parts = (
        part("log lines", 1, sections.last_lines(facts), sections.last_lines(facts, 10)),
        part("inputs", 7, *(sections.inputs(facts, most) for most in (50, 10))),
        part("outputs", 2, *(_outputs(facts, most) for most in (50, 10))),
        part("how to repeat it", 4, _headed("Repeat it by hand", sections.repeat(facts))),
    )
    return limits.fit(parts, limits.CHECK_BYTES, elsewhere=_elsewhere(facts))


def _headed(title: str, text: str) -> str:
    return f"**{title}**\n\n{text}" if text else ""


def _outputs(facts: RunFacts, most: int) -> str:
    return _headed(sections.outputs_title(facts), sections.outputs(facts, most, digests=False))
