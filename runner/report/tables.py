"""Lists of runs, files and models -> tables."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from runner.follow import taken_up_by_itself
from runner.quantities import format_duration, format_size, format_value
from runner.report.plain import plain

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from runner.datasets.registered import Version as DatasetVersion
    from runner.gc import Found
    from runner.manifest import FileEntry
    from runner.models import Promotion, Version
    from runner.runs import Run

# Below this a table shows what tells runs apart, and `show` tells the rest.
NARROW_COLUMNS = 100
_COLOURS = {"succeeded": "green", "failed": "red", "cancelled": "yellow", "gone": "red"}


def _table(*columns: str) -> Table:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold dim")
    for column in columns:
        table.add_column(column, overflow="fold", no_wrap=column in ("run", "digest"))
    return table


def _cell(text: object, style: str = "") -> Text:
    from rich.text import Text

    return Text(plain(str(text)), style=style)


def runs(console: Console, shown: Sequence[Run], *, lost: frozenset[str], now_s: float) -> None:
    """Print runs; `lost` are those whose supervisor died."""
    if not shown:
        console.print("no runs that match; start one with: pushtrain run", highlight=False)
        return
    columns = ["run", "name", "state", "took", "metric", "branch", "model", "inputs"]
    table = _table(*columns[: 5 if console.width < NARROW_COLUMNS else None])
    for run in shown:
        state = "gone" if run.id in lost else str(run.state)
        end_s = run.stages[-1].started_at_s if run.state.ended else now_s
        cells = (
            _cell(run.id),
            _cell(run.name),
            _cell(state, _COLOURS.get(state, "cyan")),
            _cell(format_duration(end_s - run.created_at_s)),
            _cell(f"{run.metric[0]} {run.metric[1]:.4g}" if run.metric else "-"),
            _cell(run.branch or "-"),
            _cell(run.release or "-"),
            _cell(" ".join(f"{n}={format_value(v)}" for n, v in run.inputs.items())),
        )
        table.add_row(*cells[: len(table.columns)])
    console.print(table)
    if lost:
        alone = any(run.id in lost and taken_up_by_itself(run) for run in shown)
        waits = "; the head's agent does so within minutes, unless the run has secrets" if alone else ""
        console.print(
            f"gone: its supervisor died; take it up with: pushtrain resume RUN{waits}", highlight=False
        )


def files(console: Console, shown: Sequence[FileEntry], *, sealed: bool, ended: bool) -> None:
    """Print a run's files."""
    if not shown:
        console.print("no outputs" + ("" if sealed or ended else " yet"), highlight=False)
        return
    table = _table("size", "path", "digest")
    for entry in shown:
        table.add_row(
            _cell(format_size(entry.size_bytes)),
            _cell(entry.path),
            _cell(entry.digest[:19] or "growing", "dim"),
        )
    console.print(table)
    if not sealed:
        console.print("as last synced" if ended else "so far; the run goes on", highlight=False)


def datasets(console: Console, shown: Sequence[DatasetVersion]) -> None:
    """Print versions of registered data sets."""
    if not shown:
        console.print("no data sets yet; register one with: pushtrain data add NAME PATH", highlight=False)
        return
    table = _table("name", "version", "size", "files", "digest", "registered")
    for version in shown:
        table.add_row(
            _cell(version.name),
            _cell(f"v{version.number}"),
            _cell(format_size(version.size_bytes)),
            _cell(len(version.files)),
            _cell(version.digest[:19], "dim"),
            _cell(_when(version.created_at_s)),
        )
    console.print(table)


BLOBS_SHOWN = 10


def garbage(console: Console, shown: Sequence[Found], *, now_s: float) -> None:
    """Print what may be removed, and how much that is; of blobs, which have no names, the first few."""
    if not shown:
        console.print("there is nothing to remove", highlight=False)
        return
    table = _table("size", "what", "name", "unused for")
    blobs = [found for found in shown if found.kind == "blob"]
    hidden = blobs[BLOBS_SHOWN:]
    for found in shown:
        if found not in hidden:
            unused = format_duration(round(now_s - found.used_at_s)) if found.used_at_s else "-"
            table.add_row(
                _cell(format_size(found.size_bytes)), _cell(found.kind), _cell(found.name), _cell(unused)
            )
    if hidden:
        size = format_size(sum(found.size_bytes for found in hidden))
        table.add_row(_cell(size), _cell("blob"), _cell(f"and {len(hidden)} more"), _cell("-"))
    console.print(table)
    total = format_size(sum(found.size_bytes for found in shown))
    console.print(f"{total} in all", highlight=False)


def models(console: Console, rows: Sequence[tuple[Version, Mapping[str, Promotion]]]) -> None:
    """Print each model's latest version and its stages."""
    if not rows:
        console.print("no models yet; a run with `release:` in its train.yml registers one", highlight=False)
        return
    table = _table("model", "latest", "framework", "size", "run", "stages")
    for version, stages in rows:
        table.add_row(
            _cell(version.name),
            _cell(version.version),
            _cell(_framework(version)),
            _cell(format_size(version.size_bytes)),
            _cell(version.lineage.run_id),
            _cell(", ".join(f"{stage} {p.version}" for stage, p in stages.items()) or "-"),
        )
    console.print(table)


def model(
    console: Console,
    version: Version,
    *,
    stages: Mapping[str, Promotion],
    versions: Sequence[str],
    option: str = "",
) -> None:
    """Print one version; `option` is what a command has to say of where it is kept."""
    from rich.text import Text

    lineage = version.lineage
    standing = [f"{stage} (#{p.n})" for stage, p in stages.items() if p.version == version.version]
    made = _when(version.created_at_s)
    console.print(Text(f"{version.name}@{version.version}", style="bold"), Text(plain(_framework(version))))
    rows = (
        ("made", f"{made} by run {lineage.run_id}"),
        ("commit", (lineage.commit or "none") + (", with uncommitted changes" if lineage.dirty else "")),
        ("branch", lineage.branch or "-"),
        ("plan", lineage.plan_hash),
        (
            "environment",
            f"{lineage.environment.kind} {lineage.environment.digest or lineage.environment.key}",
        ),
        ("inputs", " ".join(f"{n}={format_value(v)}" for n, v in lineage.inputs.items()) or "-"),
        ("metrics", " ".join(f"{n}={v:.6g}" for n, v in lineage.metrics.items()) or "-"),
        ("data", " ".join(f"{d.name}={d.digest}" for d in lineage.data) or "-"),
        ("needs", _needs(version)),
        ("stages", ", ".join(standing) or "-"),
        ("versions", ", ".join(versions)),
    )
    for label, value in rows:
        line = Text.assemble((f"  {label:<12}", "dim"), plain(value))
        console.print(line, soft_wrap=True, highlight=False, markup=False)
    table = _table("size", "path", "digest")
    for entry in version.files:
        table.add_row(_cell(format_size(entry.size_bytes)), _cell(entry.path), _cell(entry.digest, "dim"))
    console.print(table)
    command = f"pushtrain models download {version.name}@{version.version}{option}"
    console.print(f"\nget it: {command}", highlight=False, soft_wrap=True, markup=False)


def _when(at_s: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(at_s))


def _framework(version: Version) -> str:
    return " ".join(filter(None, (version.framework, version.framework_version))) or "-"


def _needs(version: Version) -> str:
    needs = version.resources
    cpu = f"{needs.cpu:g} cores" if needs.cpu is not None else ""
    memory = format_size(needs.memory_bytes) if needs.memory_bytes is not None else ""
    return ", ".join(filter(None, (cpu, memory))) or "-"
