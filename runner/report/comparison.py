"""Several runs -> their inputs, metrics, environment and source side by side."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from runner import source
from runner.quantities import format_duration, format_value
from runner.report.plain import plain
from runner.runs import State

if TYPE_CHECKING:
    from rich.console import Console

    from runner.metrics import Series
    from runner.plan import Plan
    from runner.runs import Run
    from runner.store import Store

DIFF_LINES = 200
TEXT_LIMIT_BYTES = 256 * 1024
Row = tuple[str, tuple[str, ...]]


@dataclass(frozen=True, kw_only=True)
class Side:
    """One of the runs."""

    run: Run
    plan: Plan
    series: Mapping[str, Series]


def show(console: Console, sides: Sequence[Side], store: Store, cache: Path) -> None:
    """Print the comparison; rows that differ are marked."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold dim")
    for column in ("", "", *(side.run.id for side in sides)):
        table.add_column(column, overflow="fold")
    for label, values in rows(sides):
        differs = len(set(values)) > 1
        style = "bold" if differs else "dim"
        table.add_row(
            Text("≠" if differs else ""),
            Text(plain(label), style="dim"),
            *(Text(plain(value), style=style) for value in values),
        )
    console.print(table)
    for line in source_diff(sides, store, cache):
        colour = {"+": "green", "-": "red", "@": "cyan"}.get(line[:1], "")
        console.print(Text(plain(line), style=colour), soft_wrap=True, highlight=False)


def rows(sides: Sequence[Side]) -> Iterator[Row]:
    """Label and one value per run."""
    yield "state", tuple(str(s.run.state) for s in sides)
    yield "ran for", tuple(format_duration(s.run.seconds_in(State.RUNNING)) for s in sides)
    names = dict.fromkeys(name for s in sides for name in s.plan.inputs)
    for name in names:
        yield (
            f"inputs.{name}",
            tuple(format_value(s.plan.inputs[name]) if name in s.plan.inputs else "-" for s in sides),
        )
    for name in dict.fromkeys(name for s in sides for name in s.series):
        yield name, tuple(f"{s.series[name].last:.6g}" if name in s.series else "-" for s in sides)
    yield "engine", tuple(s.plan.engine for s in sides)
    yield "environment", tuple(f"{s.plan.environment.kind} {s.plan.environment.key[:12]}" for s in sides)
    packages = [tuple(sorted(s.plan.environment.pip)) for s in sides]
    for name in dict.fromkeys(p for each in packages for p in each):
        if any(name not in each for each in packages):
            yield f"  {name}", tuple("yes" if name in each else "-" for each in packages)
    yield "data", tuple(" ".join(f"{d.name}={d.digest[7:19]}" for d in s.plan.datasets) or "-" for s in sides)
    yield "commit", tuple((s.run.commit[:10] + "+" * s.run.dirty) if s.run.commit else "-" for s in sides)
    yield "tree", tuple(s.plan.tree[:10] for s in sides)
    yield "model", tuple(s.run.release or "-" for s in sides)


def source_diff(sides: Sequence[Side], store: Store, cache: Path) -> Iterator[str]:
    """The source of the first run against that of the second, as a unified diff; cut when it is long."""
    if len(sides) < 2 or sides[0].plan.tree == sides[1].plan.tree:
        return
    before, after = (_texts(source.unpack(store, side.plan.tree, cache)) for side in sides[:2])
    lines: list[str] = []
    for path in sorted({*before, *after}):
        old, new = before.get(path), after.get(path)
        if old != new:
            lines += _file_diff(path, old, new)
    yield ""
    yield from lines[:DIFF_LINES]
    if len(lines) > DIFF_LINES:
        yield f"… and {len(lines) - DIFF_LINES} lines more"


def _texts(folder: Path) -> dict[str, str]:
    """The text files of a source by path; a large or binary one is told by its size alone."""
    found = {}
    for path in sorted(p for p in folder.rglob("*") if p.is_file() and not p.is_symlink()):
        size_bytes = path.stat().st_size
        try:
            text = path.read_text() if size_bytes <= TEXT_LIMIT_BYTES else f"({size_bytes} bytes)"
        except UnicodeDecodeError:
            text = f"({size_bytes} bytes, binary)"
        found[str(path.relative_to(folder))] = text
    return found


def _file_diff(path: str, old: str | None, new: str | None) -> list[str]:
    return [
        line.rstrip("\n")
        for line in difflib.unified_diff(
            (old or "").splitlines(),
            (new or "").splitlines(),
            f"a/{path}" if old is not None else "/dev/null",
            f"b/{path}" if new is not None else "/dev/null",
            lineterm="",
        )
    ]
