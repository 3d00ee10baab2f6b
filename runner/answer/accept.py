"""A wish -> a run: planned from its commit, submitted once, however often it is asked for."""

from __future__ import annotations

import logging
import time
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from runner import checkout, pipeline, runs
from runner.errors import Conflict, NotFound, RunNotFound, SpecError

if TYPE_CHECKING:
    from runner.answer.desk import Desk
    from runner.answer.wish import Wish
    from runner.pipeline import Workshop
    from runner.runs import Run
    from runner.store import Store

logger = logging.getLogger(__name__)

MOST_RUNS = 20


@dataclass(frozen=True, kw_only=True)
class Accepted:
    """A run that answers a wish. `found` says that it was there before: started by an earlier job, or long finished."""

    run_id: str
    wish: Wish
    shop: Workshop
    found: bool


def accept(desk: Desk, wish: Wish) -> Accepted:
    """Start the run, or find the one that was started for the same wish or did just this. Safe to repeat.

    A job that is run again follows the run of its first attempt as long as that goes on, and takes it up where its
    supervisor died; only a run that ended badly is started anew, by a job that is run again. Raises PushtrainError
    for what cannot be planned, SpecError with paths as they are in the repository.
    """
    shop = replace(desk.shop, engine_name=wish.engine) if wish.engine else desk.shop
    store, key = shop.store, _key(desk, wish.key)
    known = _known(store, key)
    if known is not None and not _starts_anew(desk, store, known):
        return Accepted(run_id=_alive(shop, known), wish=wish, shop=shop, found=True)
    with checkout.work_tree(
        desk.remote, str(wish.asked.commit), home=shop.home, isolated=wish.asked.fork
    ) as folder:
        planned = _plan(desk, shop, wish, folder)
        with closing(planned.source):
            if planned.plan.reuse and not wish.fresh and not planned.plan.isolated:
                done = pipeline.finished(store, planned.plan)
                if done is not None:
                    store.write(key, done.id.encode())
                    return Accepted(run_id=done.id, wish=wish, shop=shop, found=True)
            run_id = runs.new_id(now_s=time.time())
            if known is not None:
                store.write(key, run_id.encode())
            else:
                run_id = _first(store, key, run_id)
            _remember(store, desk, wish, planned.plan.name, run_id)
            if not _is_there(store, run_id):
                pipeline.submit(shop, planned, run_id=run_id)
    return Accepted(run_id=run_id, wish=wish, shop=shop, found=False)


def _plan(desk: Desk, shop: Workshop, wish: Wish, folder: Path) -> pipeline.Planned:
    from runner.answer.registry import latest_published

    try:
        planned = pipeline.make_plan(
            shop,
            folder,
            train_file=desk.options.train_file,
            overrides=wish.overrides,
            asked=wish.asked,
            trusted=wish.trusted,
        )
    except SpecError as error:
        prefix = f"{folder}/"
        faults = tuple(replace(fault, path=fault.path.removeprefix(prefix)) for fault in error.faults)
        raise SpecError(faults, tip=error.tip) from error
    release = planned.plan.release
    if release is None:
        return planned
    numbered = replace(release, after=latest_published(desk, release.model))
    return replace(planned, plan=replace(planned.plan, release=numbered))


def of_pull(store: Store, repository: str, pull: int) -> list[Run]:
    """The latest runs of a pull request, newest first."""
    found = []
    known = sorted(store.children(f"github/{repository}/pulls/{pull}/runs"), reverse=True)
    for run_id in known[:MOST_RUNS]:
        try:
            found.append(runs.load(store, run_id))
        except RunNotFound:  # its supervisor has not made it yet
            continue
    return found


def _remember(store: Store, desk: Desk, wish: Wish, name: str, run_id: str) -> None:
    if wish.asked.pull is not None:
        store.write(f"github/{desk.name}/pulls/{wish.asked.pull}/runs/{run_id}", name.encode())
    store.write(f"github/{desk.name}/due/{run_id}", b"")


def _key(desk: Desk, key: str) -> str:
    return f"github/{desk.name}/asked/{key}"


def _known(store: Store, key: str) -> str | None:
    try:
        return store.read(key).decode()
    except NotFound:
        return None


def _first(store: Store, key: str, run_id: str) -> str:
    """Of two jobs that ask for the same at once, one starts the run and both follow it."""
    try:
        store.create(key, run_id.encode())
    except Conflict:
        return store.read(key).decode()
    return run_id


def _starts_anew(desk: Desk, store: Store, run_id: str) -> bool:
    try:
        run = runs.load(store, run_id)
    except RunNotFound:
        return not _is_there(store, run_id)
    return run.state.ended and run.state is not runs.State.SUCCEEDED and desk.job.attempt > 1


def _is_there(store: Store, run_id: str) -> bool:
    """Whether somebody submitted it already."""
    try:
        store.read(runs.key(run_id, "plan.json"))
    except NotFound:
        return False
    return True


def _alive(shop: Workshop, run_id: str) -> str:
    """The run, with a supervisor if it needs one."""
    try:
        run = runs.load(shop.store, run_id)
    except RunNotFound:  # the job died between the plan and its supervisor, or the supervisor starts just now
        shop.engine.submit(run_id)
        return run_id
    if not run.state.ended and not pipeline.supervised(shop, run):
        logger.warning("%s: its supervisor is gone; it is taken up again", run_id)
        pipeline.resume(shop, run)
    return run_id
