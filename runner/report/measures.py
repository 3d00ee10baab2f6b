"""Metrics of a run, and of the base -> tables and charts in Markdown."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from runner import charts
from runner.metrics.verdict import show
from runner.report import escape, figures, gpu_use, mermaid

if TYPE_CHECKING:
    from runner.metrics import Series
    from runner.report.facts import RunFacts

SPARK_WIDTH = 12


def ordered(facts: RunFacts) -> tuple[Series, ...]:
    """All series, the primary one first."""
    first = figures.primary(facts)
    return tuple(sorted(facts.series.values(), key=lambda series: first is None or series.name != first.name))


def table(facts: RunFacts, most: int) -> str:
    """The last values of at most `most` metrics, against the base where there is one; empty where there are none."""
    shown = ordered(facts)
    if not shown:
        return ""
    compared = facts.base is not None
    then = "" if facts.run.state.ended else " at this step"
    against = (f"{escape.cell(figures.base_name(facts))}{then}", "change") if compared else ()
    head = ("metric", "this run", *against, "curve")
    rows = [_row(facts, series, compared=compared) for series in shown[:most]]
    text = escape.table(head, rows, align="lrrrl" if compared else "lrl")
    return text + _more(len(shown) - most, "metric")


def _more(count: int, noun: str) -> str:
    return f"\n\n… and {count} more {noun}{'s' * (count > 1)}" if count > 0 else ""


def _row(facts: RunFacts, series: Series, *, compared: bool) -> tuple[str, ...]:
    value = figures.brief(series.last)
    judged = _is_judged(facts, series)
    name = escape.cell(series.name)
    curve = charts.sparkline(series.values, width=SPARK_WIDTH).strip()
    against: tuple[str, ...] = ()
    if compared:
        before = figures.base_value(facts, series.name)
        against = ("n/a" if before is None else figures.brief(before), change(facts, series))
    own = (f"🎯 {name}" if judged else name, f"**{value}**" if judged else value)
    return (*own, *against, f"`{curve}`" if curve else "")


def _is_judged(facts: RunFacts, series: Series) -> bool:
    primary = figures.primary(facts)
    return facts.plan.gate.primary is not None and primary is not None and primary.name == series.name


def change(facts: RunFacts, series: Series) -> str:
    """Such as `🟢 ▲ 0.004 (0.4 %)`: the arrow says where the value went, the colour whether that is good."""
    found = figures.change(facts, series)
    if found is None:
        return "n/a"
    if found.by == 0:
        return "="
    light = {"better": "🟢 ", "worse": "🔴 "}.get(found.sense, "")
    return f"{light}{'▲' if found.by > 0 else '▼'} {figures.brief(abs(found.by), 3)}{_percent(found)}"


def _percent(found: figures.Change) -> str:
    if not found.before:
        return ""
    share = abs(found.by / found.before) * 100
    return f" ({share:.{0 if share >= 10 else 1}f} %)" if 0.05 <= share < 1000 else ""


def chart(facts: RunFacts, series: Series) -> str:
    """The chart of a series, with the base's in it; empty where there are not two values."""
    base = figures.base_series(facts, series.name)
    return mermaid.chart(series, base, base_name=figures.base_name(facts))


def curve(facts: RunFacts) -> str:
    """The chart of the primary metric."""
    series = figures.primary(facts)
    return chart(facts, series) if series is not None else ""


def charted(facts: RunFacts, most: int) -> str:
    """Charts of metrics other than the primary one, at most `most`, and how busy the GPUs were."""
    busy = gpu_use.curve(facts.gpus)
    drawn = [chart(facts, series) for series in ordered(facts)[1 : most + 1]]
    drawn += [mermaid.chart(busy)] if busy is not None else []
    return "\n\n".join(text for text in drawn if text)


def full_table(facts: RunFacts, most: int) -> str:
    """Every metric with its last value, its range, its last step and the base's value."""
    shown = ordered(facts)
    if not shown:
        return ""
    head = (
        "metric",
        "last",
        "lowest",
        "highest",
        "points",
        "last step",
        escape.cell(figures.base_name(facts)),
    )
    rows = [_full_row(facts, series) for series in shown[:most]]
    return escape.table(head, rows, align="lrrrrrr") + _more(len(shown) - most, "metric")


def _full_row(facts: RunFacts, series: Series) -> tuple[str, ...]:
    low, high = _range(series.values)
    before = figures.base_value(facts, series.name)
    return (
        escape.cell(series.name),
        show(series.last),
        low,
        high,
        str(len(series.values)),
        escape.line(str(series.steps[-1]), 20),
        "n/a" if before is None else show(before),
    )


def _range(values: Sequence[float]) -> tuple[str, str]:
    numbers = [value for value in values if not math.isnan(value)]
    return (show(min(numbers)), show(max(numbers))) if numbers else ("n/a", "n/a")
