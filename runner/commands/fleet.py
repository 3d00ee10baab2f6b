"""`pushtrain runners | queue | top`: the fleet's hosts, its queue, and its GPUs at this moment."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING

from runner.commands.shop import console, home
from runner.errors import EngineError, UsageError

if TYPE_CHECKING:
    import argparse

    from rich.console import RenderableType

    from runner.fleet.looks import Look
    from runner.fleet.rows import Place
    from runner.slurm import Slurm

LEAST_EVERY_S = 0.5
# So soon a screen of another size is drawn anew.
DRAWN_EVERY_S = 1.0


def runners(asked: argparse.Namespace) -> int:
    """Print the hosts of the fleet: what they have, what of it is free, how they are, and what runs there."""
    from runner.fleet import cluster, render, rows

    found = cluster.look(_cluster(), token=_token())
    shown = rows.hosts(found)
    if asked.json:
        print(json.dumps([dataclasses.asdict(host) for host in shown], indent=2))
        return 0
    if not shown:
        console().print("no hosts yet; on each: pushtrain agent start --join HEAD --token-file FILE")
        return 0
    render.hosts(console(), shown, note=found.note)
    return 0


def queue(asked: argparse.Namespace) -> int:
    """Print what waits, for what and behind whom, and when Slurm expects it to start."""
    from runner import slurm
    from runner.fleet import render, rows

    found = _cluster()
    jobs = slurm.jobs(found)
    shown = rows.queue(jobs, slurm.nodes(found))
    if asked.json:
        print(json.dumps([dataclasses.asdict(each) for each in shown], indent=2))
        return 0
    running = sum(not (job.waits or job.starting) for job in jobs)
    render.queue(console(), shown, running=running, now_s=time.time())
    return 0


def top(asked: argparse.Namespace) -> int:
    """Show every GPU live: how busy it is, and who runs there; without a fleet those of this machine."""
    from runner.fleet import cluster, looks
    from runner.quantities import duration

    try:
        every_s = max(LEAST_EVERY_S, duration(asked.every))
    except ValueError as error:
        raise UsageError(f"--every: {error}", tip="pushtrain top --every 5s") from None
    found, token = cluster.find(), _token()
    screen, look = console(), functools.partial(_seen, found, token)
    if asked.once or not screen.is_terminal:
        screen.print(_drawn(looks.once(look), every_s=every_s, width=screen.width))
        return 0
    from rich.live import Live

    with (
        contextlib.suppress(KeyboardInterrupt),
        Live(console=screen, screen=True, auto_refresh=False) as live,
        looks.Looks(look, every_s=every_s) as seen,
    ):
        while True:
            size = screen.size
            drawn = _drawn(seen.latest, every_s=every_s, width=size.width, height=size.height)
            live.update(drawn, refresh=True)
            seen.wait(DRAWN_EVERY_S)
    return 0


def _seen(found: Slurm | None, token: str | None) -> tuple[tuple[Place, ...], str]:
    """Raises EngineError."""
    from runner.fleet import cluster, rows

    if found is not None:
        seen = cluster.look(found, token=token)
        return rows.places(seen), seen.note
    shown = _own()
    alone = "this machine has no GPU and is in no fleet; pushtrain agent start makes it a part of one"
    return shown, "" if shown else alone


def _drawn(seen: Look | None, *, every_s: float, width: int, height: int | None = None) -> RenderableType:
    from rich.text import Text

    from runner.fleet import render

    if seen is None:
        return Text("")
    told = seen.told(now_s=time.time(), every_s=every_s)
    if not seen.places:
        return Text(render.plain_line(told), style="red" if seen.error else "")
    return render.top(seen.places, width=width, height=height, at_s=seen.at_s, note=told)


def _own() -> tuple[Place, ...]:
    """The GPUs of this machine, and the local runs that hold them."""
    import socket

    from runner import gpus
    from runner.agent import cards, metrics
    from runner.fleet import rows, scrape

    host, holders = socket.gethostname(), gpus.holders(home() / "gpus")
    found = []
    for each in cards.readings():
        computing = (metrics.run_of(pid) for pid, _ in each.processes)
        runs = tuple(dict.fromkeys(run for run in (holders.get(each.uuid, ""), *computing) if run))
        card = scrape.Card(
            uuid=each.uuid,
            model=each.model,
            index=each.index,
            memory_bytes=each.memory_bytes,
            used_bytes=each.used_bytes,
            utilization=each.utilization,
            temperature_c=each.temperature_c,
            power_w=each.power_w,
            runs=runs,
            fault=each.fault,
        )
        found.append(rows.Place(host=host, card=card, runs=runs, trouble=each.fault))
    return tuple(found)


def _cluster() -> Slurm:
    """Raises UsageError where this machine is of no fleet."""
    from runner.fleet import cluster

    found = cluster.find()
    if found is None:
        _check_rebooted()
        raise UsageError(
            "this machine is in no fleet, and has no Slurm cluster of its own",
            tip="pushtrain agent start --head makes it the first host of one; pushtrain top shows its own GPUs",
        )
    return found


def _check_rebooted() -> None:
    """Raise UsageError where this machine was in a fleet, and may be again: what runs is forgotten when it reboots."""
    from runner.agent.settings import STATE

    try:
        if not (STATE / "settings.json").exists():
            return
    except PermissionError:
        raise UsageError(
            "no agent runs on this machine; whether it was in a fleet is known to root alone",
            tip="if it was: sudo pushtrain agent start; pushtrain top shows its own GPUs",
        ) from None
    raise UsageError(
        "the agent of this machine, which is in a fleet, was not started since it booted",
        tip="sudo pushtrain agent start; with each boot: sudo pushtrain agent install",
    )


def _token() -> str | None:
    """What agents want to see; None where this machine has none, or its key may not be read by this user."""
    from runner.agent import layout
    from runner.agent.settings import State
    from runner.agent.token import metrics_token

    try:
        return metrics_token(State(folder=Path(layout.about().state)).key.read_bytes())
    except (EngineError, OSError):
        return None
