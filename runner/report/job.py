"""Facts of a run -> the summary of the job: what the comment says, and everything that it leaves out."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from runner.quantities import format_size
from runner.report import escape, gang, limits, measures, sections
from runner.report.limits import must, part

if TYPE_CHECKING:
    from runner.report.facts import RunFacts


def summary(facts: RunFacts) -> str:
    """The text for GITHUB_STEP_SUMMARY, at most 1 MiB, which ends with a line break."""
    parts = (
        must(f"{sections.heading(facts, level=2)}\n\n{sections.about(facts, check_url=facts.check_url)}"),
        must(sections.reused(facts)),
        must(sections.outcome(facts)),
        part("log lines", 1, sections.last_lines(facts), sections.last_lines(facts, 10)),
        part("progress", 9, sections.progress(facts)),
        part("metrics", 8, *(measures.table(facts, most) for most in (12, 3))),
        part("what there is to compare with", 9, sections.no_base(facts)),
        part("the curve", 5, measures.curve(facts)),
        part("more curves", 2, *(_folded("More curves", measures.charted(facts, most)) for most in (12, 4))),
        part("inputs", 7, *(sections.inputs(facts, most) for most in (1000, 50, 10))),
        part("notes", 6, _headed("Notes", sections.notes(facts))),
        part("attempts", 6, sections.attempts(facts)),
        part("the time of each stage", 7, _headed("Time", sections.duration_table(facts))),
        part("all metrics", 3, *(_all_metrics(facts, most) for most in (1000, 100))),
        part("outputs", 3, *(_outputs(facts, most) for most in (1000, 100))),
        part("the environment", 4, _headed("Environment and data", _environment(facts))),
        part("how to repeat it", 5, _headed("Repeat it by hand", sections.repeat(facts))),
        part("earlier runs", 2, *(_earlier(facts, most) for most in (200, 20))),
        must(sections.footer(facts)),
    )
    elsewhere = f"All of it: {escape.code(f'pushtrain show {facts.run.id}')}"
    return limits.fit(parts, limits.SUMMARY_BYTES - 1, elsewhere=elsewhere) + "\n"


def _headed(title: str, text: str) -> str:
    return f"### {title}\n\n{text}" if text else ""


def _folded(title: str, text: str) -> str:
    return escape.details(title, text) if text else ""


def _all_metrics(facts: RunFacts, most: int) -> str:
    count = len(facts.series)
    return _folded(f"All {count} metrics" if count > 1 else "The metric", measures.full_table(facts, most))


def _outputs(facts: RunFacts, most: int) -> str:
    listed = sections.outputs(facts, most, digests=True)
    text = f"{_folded('All files with their digests', listed)}\n\n{sections.fetching(facts)}"
    return _headed(sections.outputs_title(facts), text) if listed else ""


def _earlier(facts: RunFacts, most: int) -> str:
    return _folded(sections.earlier_title(facts), sections.earlier(facts, most))


def _environment(facts: RunFacts) -> str:
    rows = [(label, text) for label, text in _facts(facts) if text]
    return escape.table(("", ""), rows)


def _facts(facts: RunFacts) -> Iterator[tuple[str, str]]:
    plan, run = facts.plan, facts.run
    yield "environment", escape.cell(run.environment or f"{plan.environment.kind} {plan.environment.key}")
    yield "its digest", escape.cell(run.environment_digest) if run.environment_digest else ""
    yield "Python", escape.cell(plan.environment.python) if plan.environment.python else ""
    yield "packages", str(len(plan.environment.pip)) if plan.environment.pip else ""
    for data in plan.datasets:
        size = f", {format_size(data.size_bytes)}" if data.size_bytes is not None else ""
        yield (
            f"data {escape.cell(data.name)}",
            f"{escape.cell(data.source)}{size}, {escape.cell(data.digest)}",
        )
    yield "source tree", escape.cell(plan.tree)
    yield "plan", escape.cell(plan.hash)
    yield "engine", escape.cell(run.engine)
    yield "store", escape.cell(facts.store)
    if run.world_size > 1:
        yield "gang", escape.cell(gang.shape(plan))
