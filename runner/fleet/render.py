"""The rows of `runners`, `queue` and `top` -> tables that hold nothing which a terminal would obey."""

from __future__ import annotations

import io
import time
from typing import TYPE_CHECKING

from runner.quantities import format_duration, format_size
from runner.report.plain import plain

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from runner.fleet.rows import Host, Place, Waiter
    from runner.fleet.scrape import Card

# Below this a table shows what matters most, below the next one in fewer letters, below the last one less of it.
NARROW_COLUMNS = 100
SLIM_COLUMNS = 76
LEAST_COLUMNS = 50
NAMED_BEHIND = 3
_BAR = 10
_WHOLE = ("host", "free", "temp", "power", "use", "memory")


def hosts(console: Console, shown: Sequence[Host], *, note: str = "") -> None:
    """Print `runners`."""
    wide = console.width >= NARROW_COLUMNS
    columns = ("host", "GPUs", "free", "cores", "memory", "labels", "state", "runs", "agent")
    table = _table(*(columns if wide else ("host", "GPUs", "free", "state", "runs")))
    for host in shown:
        free = f"{host.gpus_free}/{host.gpus_total}" if host.gpus_total else "-"
        style = "green" if host.state == "idle" else "" if host.well else "red"
        middle = (
            _cell(f"{host.cpus_free}/{host.cpus}"),
            _cell(format_size(host.memory_bytes)),
            _cell(", ".join(host.labels) or "-"),
        )
        table.add_row(
            _cell(host.name, "bold"),
            _cell(host.gpus),
            _cell(free),
            *(middle if wide else ()),
            _cell(host.state, style),
            _cell(", ".join(host.runs) or "-"),
            *((_cell(host.agent or "-", "dim"),) if wide else ()),
        )
    console.print(table)
    total, free_gpus = sum(host.gpus_total for host in shown), sum(host.gpus_free for host in shown)
    away = sum(not host.well for host in shown)
    words = f"{len(shown)} host{'s' * (len(shown) != 1)}, {free_gpus} of {total} GPUs free"
    console.print(words + (f", {away} to look at" if away else ""), highlight=False)
    _note(console, note)


def queue(console: Console, shown: Sequence[Waiter], *, running: int, now_s: float) -> None:
    """Print `queue`: of each job a line of what it is, and one of why it waits."""
    from rich.padding import Padding
    from rich.text import Text

    going = f"{running} job{'s' * (running != 1)} run{'s' * (running == 1)}"
    if not shown:
        console.print(f"nothing waits; {going}", highlight=False)
        return
    for each in shown:
        place = "held" if each.position is None else f"{each.position}."
        head = Text(f"{place:<5}", style="yellow" if each.held else "bold")
        head.append(_line(each.run), style="cyan")
        name = "" if each.run == each.name else _line(each.name)
        asked = f"  {name + '  ' if name else ''}{each.wants}  by {each.user}"
        head.append(plain_line(f"{asked}, waits for {_lasts(now_s - each.submitted_at_s)}"))
        console.print(head, highlight=False)
        told = each.why
        if not (each.held or each.starting):
            told = f"{_why(each)}{_behind(each)}; {_starts(each.starts_at_s, now_s)}"
        text = Text(plain_line(told), style="dim")
        console.print(Padding(text, (0, 0, 0, 5), expand=False), highlight=False)
    console.print(f"{len(shown)} wait{'s' * (len(shown) == 1)}, {going}", highlight=False)


def top(
    shown: Sequence[Place], *, width: int, at_s: float, note: str = "", height: int | None = None
) -> Table:
    """`top` at one moment; of what does not fit into a screen of that height it says how much it is."""
    seen = len(shown) if height is None else min(len(shown), height)
    while True:
        left = f"{len(shown) - seen} more: pushtrain top --once" if seen < len(shown) else ""
        table = _top(shown[:seen], width=width, note="; ".join(filter(None, (left, note))))
        table.title = time.strftime("%H:%M:%S", time.localtime(at_s)) + f"  {_summary(shown)}"
        if height is None or seen <= 1 or _lines(table, width) <= height:
            return table
        seen -= 1


def _top(shown: Sequence[Place], *, width: int, note: str) -> Table:
    columns = _columns(width)
    table = _table(*columns)
    before = ""
    for place in shown:
        cells = _cells(place, slim=width < SLIM_COLUMNS)
        own = _cell(place.host if place.host != before else "", "bold")
        table.add_row(own, *(cells[column] for column in columns[1:]))
        before = place.host
    table.title_justify = "left"
    table.title_style = "dim"
    if note:
        table.caption, table.caption_justify = plain_line(note), "left"
    return table


def _lines(table: Table, width: int) -> int:
    """How many lines it takes: long ones are folded."""
    from rich.console import Console

    return len(Console(width=width, file=io.StringIO()).render_lines(table))


def _columns(width: int) -> tuple[str, ...]:
    if width >= NARROW_COLUMNS:
        return ("host", "GPU", "model", "use", "memory", "temp", "power", "run", "user")
    if width >= LEAST_COLUMNS:
        return ("host", "GPU", "use", "memory", "temp", "run")
    return ("host", "GPU", "use", "run")


def _cells(place: Place, *, slim: bool) -> dict[str, Text]:
    card, told = place.card, "; ".join(filter(None, (*place.runs, place.trouble, place.state)))
    cells = dict.fromkeys(("GPU", "model", "use", "memory", "temp", "power"), _cell("-"))
    cells["run"] = _cell(told or "-", "red" if place.trouble else "cyan" if place.runs else "")
    cells["user"] = _cell(", ".join(place.users) or "-")
    if card is None:
        return cells
    index = _cell(card.index if not place.trouble else f"{card.index} !", "red" if place.trouble else "")
    return cells | {
        "GPU": index,
        "model": _cell(card.model),
        "use": _use(card, bar=0 if slim else _BAR),
        "memory": _cell(_memory(card)),
        "temp": _figure(card.temperature_c, "°C"),
        "power": _figure(card.power_w, " W"),
    }


def _use(card: Card, *, bar: int) -> Text:
    if card.utilization is None:
        return _cell("-")
    full = round(card.utilization * bar)
    style = "green" if card.utilization >= 0.5 else "yellow" if card.utilization >= 0.05 else "dim"
    drawn = f"{'█' * full}{'·' * (bar - full)} " if bar else ""
    return _cell(f"{drawn}{card.utilization:4.0%}", style)


def _memory(card: Card) -> str:
    if card.used_bytes is None or card.memory_bytes is None:
        return "-"
    used, whole = format_size(card.used_bytes), format_size(card.memory_bytes)
    unit = whole.rpartition(" ")[2]
    return f"{used.removesuffix(f' {unit}')} of {whole}"


def _figure(value: float | None, unit: str) -> Text:
    return _cell("-" if value is None else f"{value:.0f}{unit}")


def _summary(shown: Sequence[Place]) -> str:
    used = [place.card.utilization for place in shown if place.card and place.card.utilization is not None]
    count = sum(place.card is not None for place in shown)
    mean = f", {sum(used) / len(used):.0%} busy" if used else ""
    silent = sum(place.card is None and bool(place.trouble) for place in shown)
    return f"{count} GPU{'s' * (count != 1)}{mean}" + (
        f", {silent} host{'s' * (silent != 1)} not seen" if silent else ""
    )


def _why(each: Waiter) -> str:
    """Without what the line above says already."""
    return each.why.removeprefix(f"it waits for {each.wants}").removeprefix("; ").removeprefix(", and ")


def _behind(each: Waiter) -> str:
    if not each.behind:
        return ""
    more = each.behind_count - NAMED_BEHIND
    shown = ", ".join(each.behind[:NAMED_BEHIND])
    return f"; behind {shown}" + (f" and {more} more" if more > 0 else "")


def _starts(at_s: float | None, now_s: float) -> str:
    """Slurm's estimate on this machine's clock."""
    if at_s is None:
        return "Slurm cannot say when it starts"
    if at_s <= now_s:
        return "Slurm expects it to start now"
    here, today = time.localtime(at_s), time.localtime(now_s)
    form = "%H:%M" if here[:3] == today[:3] else "%a %d %b %H:%M"
    return f"Slurm expects it to start at {time.strftime(form, here)}, in {_lasts(at_s - now_s)}"


def _lasts(seconds: float) -> str:
    """Such as `2 h 5 min`; nobody waits to the second."""
    if seconds < 55:
        return format_duration(max(0, round(seconds)))
    minutes = max(1, round(seconds / 60))
    days, hours = divmod(minutes // 60, 24)
    parts = ((days, "d"), (hours, "h"), (minutes % 60, "min"))
    return " ".join([f"{number} {unit}" for number, unit in parts if number][:2])


def plain_line(text: str) -> str:
    """`text` on one line, without anything that a terminal would obey."""
    return " ".join(plain(text.replace("\n", " ").replace("\r", " ").replace("\t", " ")).split(" "))


def _line(text: str) -> str:
    return plain_line(text)


def _table(*columns: str) -> Table:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold dim")
    for column in columns:
        table.add_column(column, overflow="fold", no_wrap=column in _WHOLE)
    return table


def _cell(text: object, style: str = "") -> Text:
    from rich.text import Text

    return Text(plain_line(str(text)), style=style)


def _note(console: Console, note: str) -> None:
    from rich.text import Text

    if note:
        console.print(Text(plain_line(note), style="yellow"), highlight=False)
