"""A run as it happens: output lines with their rank, one line a stage, and on a terminal what goes on right now."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from runner import metrics
from runner.follow import Event, Lines, Measured, Moved
from runner.quantities import format_duration
from runner.report.plain import coloured, plain
from runner.runs import State, stream_name

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rich.console import Console, RenderableType
    from rich.text import Text

    from runner.metrics import Point
    from runner.runs import Run


class Screen:
    """Shows the events of one run on `console`."""

    def __init__(self, console: Console, *, primary: str | None) -> None:
        self._console, self._primary = console, primary
        self._run: Run | None = None
        self._points: list[Point] = []
        self._building: str = ""
        self._told = 0

    def show(self, events: Iterable[Event]) -> Run:
        """Show everything until the run ended; returns it as it ended. Blocks."""
        if not self._console.is_terminal:
            for event in events:
                self.take(event)
        else:
            from rich.live import Live

            with Live(console=self._console, refresh_per_second=8, transient=True, get_renderable=self._now):
                for event in events:
                    self.take(event)
        assert self._run is not None
        return self._run

    def take(self, event: Event) -> None:
        """Show one event."""
        match event:
            case Moved(run=run):
                self._moved(run)
            case Lines(rank=None, lines=lines):
                self._building = plain(lines[-1])
            case Lines(rank=rank, lines=lines):
                self._print_lines(rank, lines)
            case Measured(points=points):
                self._points.extend(points)

    def _moved(self, run: Run) -> None:
        before, self._run = self._run, run
        if before is not None and before.state is run.state and before.attempt == run.attempt:
            if run.reason and run.reason != before.reason:
                self._say(f"  {run.reason}")
            return
        # A stage may be over before anybody looked.
        for stage in run.stages[self._told :]:
            self._stage(run, stage.state)
        self._told = len(run.stages)

    def _stage(self, run: Run, state: State) -> None:
        if state.ended or (state is State.QUEUED and not self._told):
            return
        waits = (State.QUEUED, State.WAITING)
        detail = {**dict.fromkeys(waits, run.reason), State.RUNNING: run.environment}.get(state, "")
        again = f" (attempt {run.attempt})" if state is State.RUNNING and run.attempt > 1 else ""
        self._say(f"• {state}{again}" + (f"  {detail}" if detail else ""))

    def _print_lines(self, rank: int | None, lines: tuple[str, ...]) -> None:
        from rich.text import Text

        run = self._run
        prefix = (
            f"[{stream_name(run, rank)}] "
            if run is not None and run.world_size > 1 and rank is not None
            else ""
        )
        # As one text: line by line takes ten times as long, too long for 20,000 lines a second.
        if self._console.is_terminal:
            whole = [Text.assemble((prefix, "dim"), Text.from_ansi(coloured(line))) for line in lines]
            text = Text("\n").join(whole)
        else:
            text = Text("\n".join(prefix + line for line in lines))
        self._console.print(text, soft_wrap=True, highlight=False, markup=False)

    def _say(self, sentence: str) -> None:
        self._console.print(plain(sentence), style="bold", soft_wrap=True, highlight=False, markup=False)

    def _now(self) -> RenderableType:
        from rich.spinner import Spinner
        from rich.text import Text

        if self._run is None:
            return Text("")
        since_s = self._run.stages[-1].started_at_s
        text = Text(f"{self._run.state} {format_duration(int(time.time() - since_s))}", style="bold")
        if self._run.state is State.PREPARING and self._building:
            text.append(f"  {self._building[:100]}", style="dim")
        text.append_text(self._metric())
        return Spinner("dots", text=text)

    def _metric(self) -> Text:
        from rich.text import Text

        from runner.charts import sparkline

        every = metrics.series(self._points)
        found = metrics.find(every, self._primary) if self._primary else next(iter(every.values()), None)
        if found is None:
            return Text("")
        return Text(
            f"  {plain(found.name)} {found.last:.4g} {sparkline(found.values, width=24)}", style="cyan"
        )
