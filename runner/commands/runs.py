"""`pushtrain runs | show | logs | outputs | cancel | compare`: what the store knows of runs."""

from __future__ import annotations

import functools
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from runner.commands.shop import console, follow_every_s, workshop

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from runner.manifest import FileEntry
    from runner.pipeline import Workshop
    from runner.runs import Run
    from runner.store import Store

# How often a run whose supervisor keeps dying is taken up before it is given up.
TAKE_UP_TIMES = 3


def listing(asked: argparse.Namespace) -> int:
    """Print the runs, newest first."""
    from itertools import islice

    from runner import pipeline, runs
    from runner.report import tables

    shop = workshop(asked)
    if asked.state is not None and asked.state not in tuple(runs.State):
        from runner.errors import UsageError

        raise UsageError(f"there is no state {asked.state!r}", tip=f"--state {' | '.join(runs.State)}")
    if asked.most < 1:
        from runner.errors import UsageError

        raise UsageError(f"-n {asked.most}: expected 1 or more", tip="pushtrain runs -n 20")
    found = runs.listing(shop.store, state=asked.state, branch=asked.branch, model=asked.model)
    shown = list(islice(found, min(asked.most, sys.maxsize)))
    lost = frozenset(r.id for r in shown if not r.state.ended and not pipeline.supervised(shop, r))
    tables.runs(console(), shown, lost=lost, now_s=time.time())
    return 0


def show(asked: argparse.Namespace) -> int:
    """Print one run's summary."""
    from runner import pipeline, runs
    from runner.follow import goes_on

    shop = workshop(asked)
    found = runs.find(shop.store, asked.run)
    if asked.json:
        print(runs.to_json(found).decode())
        return 0
    notes: tuple[str, ...] = ()
    if not found.state.ended and not pipeline.supervised(shop, found):
        notes = (f"its supervisor is gone; {goes_on(found)}",)
    summarise(shop, found, notes)
    return 0


def summarise(shop: Workshop, found: Run, notes: Sequence[str], *, folder: str = "") -> None:
    """Print the summary of a run; `folder` is where its train.yml was found, if that is known."""
    from runner import collect, pipeline
    from runner.report import gang, summary

    files, sealed = files_of(shop.store, found.id)
    plan = pipeline.plan_of(shop.store, found.id)
    facts = summary.Facts(
        run=found,
        series=collect.series(shop.store, found.id),
        primary=plan.gate.primary,
        files=files,
        sealed=sealed,
        store=shop.store_uri,
        notes=notes,
        gang=gang.shape(plan) if found.world_size > 1 else "",
        folder=folder,
        gpus=collect.gpus(shop.store, found.id) if plan.gang.gpus_per_node else (),
    )
    summary.show(console(), facts)


def files_of(store: Store, run_id: str) -> tuple[tuple[FileEntry, ...], bool]:
    """The run's files, and whether they are sealed; else those of the live mirror of node 0 so far."""
    from runner import manifest, runs
    from runner.errors import NotFound
    from runner.jobs import live_prefix

    try:
        return manifest.Manifest.from_json(store.read(runs.key(run_id, "outputs.json"))).files, True
    except NotFound:
        listed = manifest.listing(store, live_prefix(run_id, 0))
    entries = (
        manifest.FileEntry(
            path=f.path, size_bytes=f.size_bytes, digest=f.digest or "", executable=f.executable
        )
        for f in listed
    )
    return tuple(entries), False


def logs(asked: argparse.Namespace) -> int:
    """Print the output of all ranks, or of one; with -f until the run ends."""
    from runner import pipeline, runs
    from runner.follow import Lines, Moved, follow

    shop = workshop(asked)
    found = runs.find(shop.store, asked.run)
    if not asked.follow:
        printed = _print_build_log if asked.build else functools.partial(_print_logs, rank=asked.rank)
        return printed(shop.store, found)
    events = follow(
        shop.store,
        found.id,
        every_s=follow_every_s(shop.store_uri),
        supervised=lambda run: pipeline.supervised(shop, run),
    )
    for event in events:
        if isinstance(event, Moved):
            if event.run.reason and event.run.reason != found.reason:
                print(f"{found.id} {event.run.state}: {event.run.reason}", file=sys.stderr)
            found = event.run
        if (
            isinstance(event, Lines)
            and (event.rank is None) == asked.build
            and asked.rank in (None, event.rank)
        ):
            prefix = ""
            if found.world_size > 1 and event.rank is not None:
                prefix = f"[{runs.stream_name(found, event.rank)}] "
            for line in event.lines:
                print(prefix + line, flush=True)
    return found.exit_code or 0


def _print_build_log(store: Store, found: Run) -> int:
    from runner import runs

    built = store.tail(runs.build_log_key(found.id), offset=0)
    sys.stdout.buffer.write(built)
    if not built:
        so_far = "" if found.state.ended else " so far"
        print(f"nothing was built for it{so_far}; pushtrain show {found.id}", file=sys.stderr)
    return 0


def _print_logs(store: Store, found: Run, *, rank: int | None) -> int:
    from runner import runs
    from runner.errors import UsageError

    last = found.world_size + found.launchers - 1
    if rank is not None and not 0 <= rank <= last:
        raise UsageError(f"there is no rank {rank}", tip=f"the run has ranks 0 to {found.world_size - 1}")
    if not found.attempts:
        has_prepared = any(stage.state is runs.State.PREPARING for stage in found.stages)
        tells = f"logs {found.id} --build tells of the environment" if has_prepared else f"show {found.id}"
        print(f"no rank has started{'' if found.state.ended else ' yet'}; pushtrain {tells}", file=sys.stderr)
    for attempt in range(1, found.attempt + 1):
        for each in range(last + 1) if rank is None else (rank,):
            data = store.tail(runs.log_key(found.id, attempt=attempt, rank=each), offset=0)
            if not data and rank is None and each >= found.world_size:
                continue  # A launcher has nothing to say as long as all goes well.
            if found.attempt > 1 or (found.world_size > 1 and rank is None):
                print(f"--- attempt {attempt}, {runs.stream_name(found, each)}", flush=True)
            sys.stdout.buffer.write(data)
            sys.stdout.flush()
    return 0


def outputs(asked: argparse.Namespace) -> int:
    """List what a run left, or copy part of it: `outputs RUN get PATH DEST`."""
    from runner import runs
    from runner.report import tables

    shop = workshop(asked)
    found = runs.find(shop.store, asked.run)
    files, sealed = files_of(shop.store, found.id)
    if asked.get:
        from runner.commands import transfer

        path, destination = _to_get(asked.get)
        return transfer.get(shop, found, files, sealed=sealed, path=path, destination=destination)
    tables.files(console(), files, sealed=sealed, ended=found.state.ended)
    return 0


def _to_get(words: Sequence[str]) -> tuple[str, Path]:
    """PATH and DEST of `get PATH DEST`. Raises UsageError."""
    from runner.errors import UsageError

    match words:
        case ["get", path, destination]:
            return path, Path(destination)
    raise UsageError(f"not understood: {' '.join(words)}", tip="pushtrain outputs RUN get PATH DEST")


def cancel(asked: argparse.Namespace) -> int:
    """Ask a run to stop and wait for it; `--kill` does without grace."""
    from runner import pipeline, runs
    from runner.errors import RunNotFound

    shop = workshop(asked)
    found = runs.find(shop.store, asked.run)
    if found.state.ended:
        raise RunNotFound(f"{found.id} {found.state} already", tip=f"pushtrain show {found.id}")
    runs.request_cancel(shop.store, found.id, how="kill" if asked.kill else "stop")
    taken_up = 0
    while not found.state.ended:
        if not pipeline.supervised(shop, found):
            if taken_up == TAKE_UP_TIMES:
                found = pipeline.give_up(shop, found)
                break
            # Its supervisor died: a new one ends what is left of it and keeps its outputs.
            taken_up += 1
            pipeline.take_up(shop, found)
        time.sleep(follow_every_s(shop.store_uri))
        found = runs.load(shop.store, found.id)
    print(f"{found.id} {found.state}")
    return 0


def compare(asked: argparse.Namespace) -> int:
    """Print runs side by side: inputs, metrics, environment, source."""
    from runner import collect, pipeline, runs
    from runner.report import comparison

    shop = workshop(asked)
    sides = []
    for text in asked.runs:
        found = runs.find(shop.store, text)
        plan = pipeline.plan_of(shop.store, found.id)
        sides.append(comparison.Side(run=found, plan=plan, series=collect.series(shop.store, found.id)))
    comparison.show(console(), sides, shop.store, shop.home / "cache")
    return 0
