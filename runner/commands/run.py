"""`pushtrain check | plan | run | resume`: from a folder to a run, followed until it ends."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from runner.commands.shop import console, follow_every_s, workshop

if TYPE_CHECKING:
    import argparse

    from runner.pipeline import Planned, Workshop
    from runner.runs import Run


def check(asked: argparse.Namespace) -> int:
    """Read train.yml and say that it is right, or raise with every fault."""
    from runner import spec
    from runner.errors import SpecError, UsageError

    path = _train_file(asked)
    if not path.is_file():
        raise UsageError(f"there is no {path}", tip=f"pushtrain init {asked.folder}")
    try:
        found = spec.load(path)
    except SpecError as error:
        raise SpecError(error.faults) from error  # Its tip is this command.
    inputs = f"{len(found.inputs)} input{'' if len(found.inputs) == 1 else 's'}"
    print(f"{path} is right: {found.name}, {inputs}")
    return 0


def plan(asked: argparse.Namespace) -> int:
    """Print what a run would do."""
    planned = _plan(asked)
    from runner import pipeline

    if asked.json:
        print(pipeline.to_json(planned))
        return 0
    from runner.report import planned as report

    report.show(console(), planned, finished=pipeline.finished(workshop(asked).store, planned.plan))
    return 0


def run(asked: argparse.Namespace) -> int:
    """Plan, submit and follow; return the training's own exit code."""
    planned = _plan(asked)
    from runner import pipeline

    shop = workshop(asked)
    try:
        if planned.plan.reuse and not asked.fresh:
            done = pipeline.finished(shop.store, planned.plan)
            if done is not None:
                console().print(
                    f"\n{done.id} did just this and succeeded; its result follows (--fresh trains anyway)",
                    style="bold",
                )
                return _summarise(shop, done, planned.plan.notes, folder=asked.folder)
        run_id = pipeline.submit(shop, planned)
    finally:
        planned.source.close()
    if asked.detach:
        print(run_id)
        print(f"follow it with: pushtrain logs -f {run_id}", file=sys.stderr)
        return 0
    return _attend(shop, run_id, notes=planned.plan.notes, folder=asked.folder)


def resume(asked: argparse.Namespace) -> int:
    """Start a new supervisor for a run whose supervisor died, and follow it."""
    from runner import pipeline, runs

    shop = workshop(asked)
    found = runs.find(shop.store, asked.run)
    pipeline.resume(shop, found)
    if asked.detach:
        print(found.id)
        return 0
    return _attend(shop, found.id, notes=())


def _train_file(asked: argparse.Namespace) -> Path:
    return Path(asked.folder, asked.file)


def _plan(asked: argparse.Namespace) -> Planned:
    from runner import git

    folder = Path(asked.folder)
    look = git.Look(folder) if folder.is_dir() else None  # Git works while the rest is imported.
    from runner import pipeline

    return pipeline.make_plan(workshop(asked), folder, look, train_file=asked.file, overrides=asked.param)


def _attend(shop: Workshop, run_id: str, *, notes: tuple[str, ...], folder: str = "") -> int:
    """Follow the run to its end. The first Ctrl-C or SIGTERM cancels it, the second kills it."""
    from runner import pipeline, runs
    from runner.errors import EngineError, RunNotFound
    from runner.follow import follow
    from runner.report.live import Screen

    store, asked_to_stop = shop.store, 0

    def cancel(*_: object) -> None:
        nonlocal asked_to_stop
        asked_to_stop += 1
        how = "stop" if asked_to_stop == 1 else "kill"
        runs.request_cancel(store, run_id, how=how)
        word = "stopping: ranks get SIGTERM and their grace; again to kill" if how == "stop" else "killing"
        print(f"\n{word}", file=sys.stderr)

    for signum in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signum, cancel)
    primary = pipeline.plan_of(store, run_id).gate.primary
    screen = Screen(console(), primary=primary)
    print(f"run {run_id}")
    events = follow(
        store,
        run_id,
        every_s=follow_every_s(shop.store_uri),
        supervised=lambda found: pipeline.supervised(shop, found),
    )
    try:
        ended = screen.show(events)
    except RunNotFound as error:
        said = pipeline.supervisor_log(shop, run_id)
        raise EngineError(f"the supervisor of {run_id} did not start:\n{said}", tip="pushtrain gc") from error
    return _summarise(shop, ended, (*notes, *_signed(shop, ended)), folder=folder)


def _signed(shop: Workshop, ended: Run) -> tuple[str, ...]:
    """Sign the run's model where the environment has a key; says how, and nothing where there is none to sign with."""
    from runner.models.signing import SECRETS

    if ended.release is None or not any(os.environ.get(name) for name in SECRETS):
        return ()
    from runner import models, pipeline, release
    from runner.models import provenance

    shelf = models.StoreShelf(shop.store)
    origin = release.origin(pipeline.plan_of(shop.store, ended.id), ended)
    signed = provenance.attest(shelf, models.find(shelf, ended.release), origin, os.environ)
    return (f"{ended.release}: {signed.note}",)


def _summarise(shop: Workshop, found: Run, notes: tuple[str, ...], *, folder: str) -> int:
    from runner.commands.runs import summarise

    summarise(shop, found, notes, folder=folder)
    return found.exit_code or 0
