"""One run -> the summary at its end and of `pushtrain show`: stages, metric and curve, outputs, model, what to type."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from runner.quantities import format_duration, format_size, format_value
from runner.report import gang, gpu_use
from runner.report.plain import plain
from runner.runs import State

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rich.console import Console

    from runner.manifest import FileEntry
    from runner.metrics import Series
    from runner.metrics.system import GpuSeries
    from runner.runs import Run

_MARKS = {State.SUCCEEDED: ("✓", "green"), State.FAILED: ("✗", "red"), State.CANCELLED: ("■", "yellow")}


@dataclass(frozen=True, kw_only=True)
class Facts:
    """Everything a summary tells; `sealed` is False while outputs are those of the live mirror.

    `gang` is the gang in words where it has several ranks, else empty. `folder` is that of train.yml as it was typed;
    empty where it is not known, or the one we are in. `gpus` are what they did.
    """

    run: Run
    series: Mapping[str, Series]
    primary: str | None
    files: Sequence[FileEntry]
    sealed: bool
    store: str
    notes: Sequence[str]
    gang: str = ""
    folder: str = ""
    gpus: Sequence[GpuSeries] = ()


def show(console: Console, facts: Facts) -> None:
    """Print the summary."""
    from rich.text import Text

    run = facts.run
    mark, colour = _MARKS.get(run.state, ("•", "cyan"))
    took = run.stages[-1].started_at_s - run.created_at_s
    title = Text.assemble((f"{mark} {run.name} ", f"bold {colour}"), (f"{run.id} ", "bold"))
    title.append(f"{run.state}" + (f" in {format_duration(round(took, 1))}" if run.state.ended else ""))
    _line(console, "")
    _line(console, title)
    if run.reason:
        _line(console, Text(f"  {plain(run.reason)}", style=colour))
    for line in _last_lines(run):
        _line(console, Text(f"  | {plain(line)}", style="dim"))
    if run.tip:
        _line(console, Text(f"  → {plain(run.tip)}"))
    _line(console, "")
    for name, value in rows(facts):
        _line(console, Text.assemble((f"  {name:<12}", "dim"), plain(value)))
    _curves(console, facts)
    _line(console, "")
    steps = tuple(next_steps(facts))
    width = max((len(command) for command, _ in steps), default=0)
    for command, does in steps:
        _line(console, Text.assemble((f"  {command:<{width}}", "cyan"), (f"   {does}", "dim")))


def _line(console: Console, text: object) -> None:
    console.print(text, soft_wrap=True, highlight=False, markup=False)


def _last_lines(run: Run) -> tuple[str, ...]:
    if run.state is not State.FAILED or not run.attempts or run.attempts[-1].outcome == "succeeded":
        return ()
    return run.attempts[-1].last_lines[-12:]


def rows(facts: Facts) -> Iterator[tuple[str, str]]:
    """Label and value, line by line."""
    run = facts.run
    commit = (run.commit or "")[:10] + (f" on {run.branch}" if run.branch else "")
    changes = ", with uncommitted changes" if run.dirty else ""
    yield "source", commit + changes if run.commit else "not committed to git"
    if run.inputs:
        yield "inputs", "  ".join(f"{name}={format_value(value)}" for name, value in run.inputs.items())
    if run.environment:
        yield "environment", run.environment
    yield "stages", " · ".join(stage_times(run))
    if facts.gang:
        yield "gang", ", ended with ".join(filter(None, (facts.gang, gang.ranks_at_last(run))))
    yield from (("attempts" if not i else "", told) for i, told in enumerate(gang.attempts(run)))
    if run.verdict:
        yield "metric", run.verdict
    yield from (("GPUs" if not i else "", told) for i, told in enumerate(gpu_use.lines(facts.gpus)))
    if facts.files:
        size = format_size(sum(f.size_bytes for f in facts.files))
        plural = "" if len(facts.files) == 1 else "s"
        yield "outputs", f"{len(facts.files)} file{plural}, {size}" + ("" if facts.sealed else " so far")
    if run.release:
        yield "model", f"{run.release} is registered"
    yield from (("warning", warning) for warning in run.warnings)
    yield from (("note", note) for note in facts.notes)
    yield "store", _shortened(facts.store)


def _shortened(place: str) -> str:
    home = f"{Path.home()}/"
    return f"~/{place.removeprefix(home)}" if place.startswith(home) else place


def stage_times(run: Run) -> Iterator[str]:
    """`preparing 0.4 s` for every stage that the run was in."""
    for state in State:
        seconds = run.seconds_in(state)
        if not state.ended and any(s.state is state for s in run.stages):
            yield f"{state} {seconds:.1f} s"


def _curves(console: Console, facts: Facts) -> None:
    from rich.text import Text

    from runner import charts, metrics

    chosen = metrics.find(facts.series, facts.primary) if facts.primary else None
    wanted = [chosen] if chosen is not None else list(facts.series.values())[:2]
    for series in wanted:
        if len(series.values) > 1:
            drawn = charts.curve(
                series,
                width=min(console.width - 4, 90),
                height=12,
                title=plain(series.name),
                color=console.color_system is not None,
            )
            _line(console, Text.from_ansi("\n" + drawn))


def next_steps(facts: Facts) -> Iterator[tuple[str, str]]:
    """Commands worth typing now, and what each does."""
    run = facts.run
    short = run.id.rpartition("-")[2]
    if facts.files:
        yield f"pushtrain outputs {short} get . ./{run.name}-{short}", "copy the outputs here"
    if run.attempts:
        yield f"pushtrain logs {short}", "all output of all ranks"
    elif run.state.ended and any(stage.state is State.PREPARING for stage in run.stages):
        yield f"pushtrain logs {short} --build", "how the environment was made"
    elif run.state is State.FAILED and run.engine == "slurm":
        yield "pushtrain queue", "what waits, for what and behind whom"
    if run.release:
        yield f"pushtrain models show {run.release}", "files, digests, lineage"
        yield f"pushtrain promote {run.release} production", "say which version serves"
    elif not run.state.ended:
        yield f"pushtrain cancel {short}", "stop it, keep its outputs"
    if run.inputs and run.state is State.SUCCEEDED:
        where = f" {shlex.quote(facts.folder)}" if facts.folder not in ("", ".") else ""
        yield (
            f"pushtrain run{where} -p {next(iter(run.inputs))}=VALUE",
            "train with another value; then: pushtrain compare",
        )
