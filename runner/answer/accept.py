"""A wish -> a run: planned from its commit, submitted once, however often it is asked for."""

from __future__ import annotations

import logging
import time
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from runner import checkout, pipeline, runs
from runner.answer import said as memory
from runner.answer.said import Said
from runner.errors import NotFound, Refused, RunNotFound, SpecError, UsageError

if TYPE_CHECKING:
    from runner.answer.desk import Desk
    from runner.answer.wish import Wish
    from runner.pipeline import Workshop
    from runner.runs import Run
    from runner.store import Store

logger = logging.getLogger(__name__)

MOST_RUNS = 20
# From a run's id to its folder: the source is packed and sent in between.
SUBMITTED_WITHIN_S = 60.0


@dataclass(frozen=True, kw_only=True)
class Accepted:
    """A run that answers a wish. `found` says that it was there before: started by an earlier job, or long finished."""

    said: Said
    shop: Workshop
    found: bool


def accept(desk: Desk, wish: Wish) -> Accepted:
    """Start the run, or find the one that was started for the same wish or did just this. Safe to repeat.

    A job that is run again follows the run of its first attempt as long as that goes on, and takes it up where its
    supervisor died; only a run that ended badly is started anew, by a job that is run again. Raises PushtrainError
    for what cannot be planned, SpecError with paths as they are in the repository.
    """
    if (found := known(desk, wish.key)) is not None:
        return found
    shop = _with_engine(desk.shop, wish.engine)
    old = memory.load(shop.store, desk.name, wish.key)
    with checkout.work_tree(
        desk.remote, str(wish.asked.commit), home=shop.home, isolated=wish.asked.fork
    ) as folder:
        planned = _plan(desk, shop, wish, folder)
        with closing(planned.source):
            return _start(desk, shop, wish, planned, old)


def known(desk: Desk, key: str) -> Accepted | None:
    """The run that answers what is known by `key`, with a supervisor if it needs one; None where one is to be made."""
    said = memory.load(desk.shop.store, desk.name, key)
    if said is None or _starts_anew(desk, desk.shop.store, said.run_id):
        return None
    return Accepted(said=said, shop=_keep_alive(desk.shop, said.run_id), found=True)


def _with_engine(shop: Workshop, name: str | None) -> Workshop:
    """The workshop with the engine that is wished for. Raises Refused for one that isolates less than its own does.

    Whoever set this machine up chose how far a training is kept from it and from the tokens on it; a comment must not
    choose otherwise.
    """
    if name is None or name == shop.engine_name:
        return shop
    wished = replace(shop, engine_name=name)
    if not wished.engine.isolates:
        raise Refused(
            f"the engine {name} runs a training beside what this machine keeps for itself, such as its tokens: "
            f"here trainings run with {shop.engine_name}",
            tip=f"leave --engine {name} out; whoever runs this machine may choose so: PUSHTRAIN_ENGINE={name}",
        )
    return wished


def _start(desk: Desk, shop: Workshop, wish: Wish, planned: pipeline.Planned, old: Said | None) -> Accepted:
    store, plan = shop.store, planned.plan
    reusable = plan.reuse and not wish.fresh and not plan.isolated
    done = pipeline.finished(store, plan) if reusable else None
    run_id = done.id if done is not None else runs.new_id(now_s=time.time())
    wanted = _said(desk, wish, run_id, reused=done is not None)
    if old is None:
        wanted = memory.create(store, wanted)
        if wanted.run_id != run_id:  # Another job asked for the same in this very moment, and was first.
            _is_submitted(store, wanted.run_id)
            return Accepted(said=wanted, shop=shop, found=True)
    else:
        memory.keep(store, wanted)
    if wanted.pull is not None:
        store.write(f"github/{desk.name}/pulls/{wanted.pull}/runs/{wanted.run_id}", plan.name.encode())
    memory.open_outbox(store, wanted)
    if done is None and not _is_there(store, wanted.run_id):
        pipeline.submit(shop, planned, run_id=wanted.run_id)
    return Accepted(said=wanted, shop=shop, found=done is not None)


def _said(desk: Desk, wish: Wish, run_id: str, *, reused: bool) -> Said:
    comment = wish.trusted.on.comment
    return Said(
        key=wish.key,
        run_id=run_id,
        repository=desk.name,
        commit=str(wish.asked.commit),
        job_url=desk.job.url,
        train_file=desk.options.train_file,
        word=comment.command if comment is not None else "",
        pull=wish.asked.pull,
        command=wish.comment,
        reused=reused,
    )


def _plan(desk: Desk, shop: Workshop, wish: Wish, folder: Path) -> pipeline.Planned:
    path = PurePosixPath(desk.options.train_file)
    place = folder / path.parent
    if not place.is_dir():
        raise UsageError(
            f"{str(wish.asked.commit)[:10]} has no folder {path.parent}", tip="train-file: PATH/train.yml"
        )
    try:
        planned = pipeline.make_plan(
            shop,
            place,
            train_file=path.name,
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
    from runner.answer import registry  # It loads what publishes, which costs time and few plans need.

    plan = replace(
        planned.plan,
        release=replace(release, after=registry.latest_published(desk, release.model)),
        notes=(*planned.plan.notes, *registry.obstacles(desk, release.model)),
    )
    return replace(planned, plan=plan)


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


def _starts_anew(desk: Desk, store: Store, run_id: str) -> bool:
    try:
        run = runs.load(store, run_id)
    except RunNotFound:
        return not _is_submitted(store, run_id)
    return run.state.ended and run.state is not runs.State.SUCCEEDED and desk.job.attempt > 1


def _is_submitted(store: Store, run_id: str) -> bool:
    """Whether the run's folder is there; waits for a job that is just about to make it."""
    while not _is_there(store, run_id):
        if time.time() - runs.asked_at_s(run_id) > SUBMITTED_WITHIN_S:
            return False
        time.sleep(0.1)
    return True


def _is_there(store: Store, run_id: str) -> bool:
    """Whether somebody submitted it already."""
    try:
        store.read(runs.key(run_id, "plan.json"))
    except NotFound:
        return False
    return True


def _keep_alive(shop: Workshop, run_id: str) -> Workshop:
    """Give the run a supervisor if it needs one; returns the workshop with the engine of the run."""
    shop = replace(shop, engine_name=pipeline.plan_of(shop.store, run_id).engine)
    try:
        run = runs.load(shop.store, run_id)
    except RunNotFound:  # the job died between the plan and its supervisor, or the supervisor starts just now
        shop.engine.submit(run_id)
        return shop
    if not run.state.ended and not pipeline.supervised(shop, run):
        logger.warning("%s: its supervisor is gone; it is taken up again", run_id)
        pipeline.resume(shop, run)
    return shop
