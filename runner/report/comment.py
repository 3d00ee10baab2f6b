"""Facts of a run -> the one comment of a pull request and training, edited in place."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from runner.report import escape, limits, measures, sections
from runner.report.limits import must, part

if TYPE_CHECKING:
    from runner.report.facts import RunFacts
    from runner.report.limits import Part


def marker(name: str) -> str:
    """The first line of the comment, by which it is found again; `name` is that of the training."""
    return f"<!-- pushtrain:{re.sub('[^A-Za-z0-9._-]', '_', name)} -->"


def body(facts: RunFacts) -> str:
    """The comment, at most 65,536 bytes. Equal for equal facts; of a run that ended also whenever it is asked."""
    elsewhere = f"All of it: {escape.code(f'pushtrain show {facts.run.id}')}"
    return limits.fit(_parts(facts), limits.COMMENT_BYTES, elsewhere=elsewhere)


def _parts(facts: RunFacts) -> tuple[Part, ...]:
    title = f"{marker(facts.run.name)}\n{sections.heading(facts, level=3)}"
    repeat = sections.repeat(facts)
    return (
        must(f"{title}\n\n{sections.about(facts, check_url=facts.check_url)}"),
        must(sections.reused(facts)),
        must(sections.outcome(facts)),
        part("log lines", 1, sections.last_lines(facts), sections.last_lines(facts, 10)),
        part("progress", 9, sections.progress(facts)),
        part("metrics", 8, *(measures.table(facts, most) for most in (12, 6, 3))),
        part("what there is to compare with", 9, sections.no_base(facts)),
        part("the curve", 3, measures.curve(facts)),
        part("inputs", 7, *(sections.inputs(facts, most) for most in (30, 10))),
        part("the time of each stage", 6, sections.durations(facts)),
        part("notes", 5, sections.notes(facts)),
        part("attempts", 5, sections.attempts(facts)),
        part("more curves", 2, _folded("More curves", measures.charted(facts, 4))),
        part("outputs", 2, *(_outputs(facts, most) for most in (20, 5))),
        part("how to repeat it", 4, _folded("Repeat it by hand", repeat)),
        part("earlier runs", 2, *(_earlier(facts, most) for most in (20, 5))),
        must(sections.footer(facts)),
    )


def _folded(summary: str, text: str) -> str:
    return escape.details(summary, text) if text else ""


def _outputs(facts: RunFacts, most: int) -> str:
    listed = sections.outputs(facts, most, digests=False)
    if not listed:
        return ""
    return escape.details(sections.outputs_title(facts), f"{listed}\n\n{sections.fetching(facts)}")


def _earlier(facts: RunFacts, most: int) -> str:
    return _folded(sections.earlier_title(facts), sections.earlier(facts, most))
