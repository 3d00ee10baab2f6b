"""A plan -> what `pushtrain plan` prints."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from runner.quantities import format_duration, format_size, format_value
from runner.report.gang import shape
from runner.report.plain import plain

if TYPE_CHECKING:
    from rich.console import Console

    from runner.pipeline import Planned
    from runner.plan import Plan
    from runner.runs import Run

_PRESENT = {True: ", there already", False: ", to be made", None: ", made unless it is there already"}


def show(console: Console, planned: Planned, *, finished: Run | None) -> None:
    """Print the plan, and whether a finished run makes it needless."""
    from rich.text import Text

    for label, value in rows(planned):
        text = Text.assemble((f"{label:<12}", "dim"), plain(value))
        console.print(text, soft_wrap=True, highlight=False, markup=False)
    if finished is not None:
        sentence = f"{finished.id} did just this and succeeded: `pushtrain run` would return its result"
        console.print(f"\n{sentence}", soft_wrap=True, highlight=False, markup=False)


def rows(planned: Planned) -> Iterator[tuple[str, str]]:
    """Label and value, line by line."""
    plan, asked = planned.plan, planned.plan.asked
    yield "name", plan.name
    commit = (
        f"{asked.commit[:10]} on {asked.branch or 'no branch'}" if asked.commit else "not committed to git"
    )
    yield "source", f"{commit}, tree {plan.tree[:10]}"
    if planned.source.changed and asked.commit:
        names = ", ".join(planned.source.changed[:5]) + (" …" if len(planned.source.changed) > 5 else "")
        yield "", f"with uncommitted changes: {names}"
    yield from (
        ("inputs" if not i else "", f"{n}={format_value(v)}") for i, (n, v) in enumerate(plan.inputs.items())
    )
    yield "command", plan.argv[-1] if plan.argv[:2] == ("/bin/sh", "-c") else " ".join(plan.argv)
    kind = f"{plan.environment.kind} {plan.environment.key[:12]}"
    yield "environment", kind + _PRESENT[planned.environment_present]
    yield "engine", plan.engine
    yield "gang", _gang(plan)
    yield from (
        ("data" if not i else "", f"{d.name}: {d.source} ({d.digest})") for i, d in enumerate(plan.datasets)
    )
    yield from _limits(plan)
    if plan.release is not None:
        release = plan.release
        yield (
            "release",
            f"the next {release.bump} version of {release.model} from {release.path} ({release.framework})",
        )
    yield from (("note", note) for note in plan.notes)
    yield "hash", plan.hash


def _gang(plan: Plan) -> str:
    gang, text = plan.gang, shape(plan)
    if gang.gpus_per_node:
        each = "each node with " if gang.nodes > 1 else ""
        text += f", {each}{gang.gpus_per_node} {gang.gpu_model or 'GPU'}"
    if gang.cpus is not None:
        text += f", {gang.cpus:g} cores"
    if gang.memory_bytes is not None:
        text += f", {format_size(gang.memory_bytes)}"
    return text


def _limits(plan: Plan) -> Iterator[tuple[str, str]]:
    limits = plan.limits
    named = (("queue", limits.queue_s), ("run", limits.run_s), ("silence", limits.silence_s))
    told = [f"{name} {format_duration(seconds)}" for name, seconds in named if seconds is not None]
    if told:
        yield "time limits", ", ".join(told)
