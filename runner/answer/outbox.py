"""What could not be said to GitHub when it happened -> said now, by whoever has a token."""

from __future__ import annotations

import contextlib
import logging
import os
import subprocess
import sys
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from runner import pipeline, runs
from runner.answer import finish
from runner.answer import said as memory
from runner.answer.attend import Attendance
from runner.errors import GitHubError, PushtrainError, RunNotFound
from runner.lock import held

if TYPE_CHECKING:
    from collections.abc import Iterator

    from runner.answer.accept import Accepted
    from runner.answer.desk import Desk
    from runner.answer.said import Said
    from runner.follow import Event
    from runner.pipeline import Workshop
    from runner.runs import Run

logger = logging.getLogger(__name__)

START_WITHIN_S = 10.0
LOOK_EVERY_S = 10.0
# Longer than LOOK_EVERY_S: by then the other watcher has seen our runs, or has ended.
OTHER_WATCHER_S = 30.0
# A run that has no run.json for so long was never started: its job died in between, and nobody asked again.
NEVER_STARTED_S = 24 * 3600.0


def send(desk: Desk) -> tuple[str, ...]:
    """Say what is due of runs that nobody follows any more; returns the runs of which something is left to say.

    Safe to repeat, and next to a job that follows its own runs: what GitHub has is not sent again.
    """
    left = []
    for said in _due(desk):
        try:
            if not _send(desk, said):
                left.append(said.run_id)
        except GitHubError as error:
            logger.warning("%s: %s", said.run_id, error)
            return (*left, said.run_id)
        except PushtrainError as error:
            logger.warning("%s: %s", said.run_id, error)
            left.append(said.run_id)
    return tuple(left)


def watch(desk: Desk) -> None:
    """Keep GitHub up to date on the runs that no job follows, those too that come meanwhile, until all ended.

    Blocks. One watcher is enough for a machine: a second one leaves its runs to the first. May be killed and begun
    again at any moment.
    """
    with held(desk.shop.home / "watch.lock", wait_s=OTHER_WATCHER_S) as mine:
        followed: dict[str, Attendance] = {}
        looked_at_s = -LOOK_EVERY_S
        while mine:
            if not followed or time.monotonic() - looked_at_s > LOOK_EVERY_S:
                looked_at_s = time.monotonic()
                new = {said.key: said for said in _going(desk) if said.key not in followed}
                followed |= {key: silent(desk, desk.shop, said) for key, said in new.items()}
            if not followed:
                return
            for key, each in tuple(followed.items()):
                if not _goes_on(each):
                    del followed[key]
                    _say_last(each)


def _going(desk: Desk) -> Iterator[Said]:
    for said in _due(desk):
        with contextlib.suppress(RunNotFound):
            if said.detached and not runs.load(desk.shop.store, said.run_id).state.ended:
                yield said


def _goes_on(attendance: Attendance) -> bool:
    try:
        return attendance.step()
    except PushtrainError as error:
        logger.error("%s: %s", attendance.run_id, error)
        return False


def _say_last(attendance: Attendance) -> None:
    if attendance.run is not None and attendance.run.state.ended:
        finish.last_word(attendance)


def announce(desk: Desk, accepted: Accepted) -> None:
    """Tell GitHub that the run is there, and follow it no further."""
    attendance = silent(desk, accepted.shop, accepted.said)
    deadline_s = time.monotonic() + START_WITHIN_S
    while True:
        try:
            attendance.look()
        except RunNotFound:
            if time.monotonic() > deadline_s:
                raise
            time.sleep(0.05)
        else:
            attendance.voice.detach()
            later = (
                "nobody follows it: what it comes to is said by the next job, or by `pushtrain github send`"
            )
            attendance.tell(notes=() if desk.token_lasts else (later,))
            attendance.voice.leave()
            return


def leave_watcher(desk: Desk) -> None:
    """Start `pushtrain github watch`, which says what the runs come to after this job.

    It has the token, in its environment, and no mark of the job, by which GitHub's runner would end it.
    """
    environ = {name: value for name, value in os.environ.items() if name != "RUNNER_TRACKING_ID"}
    desk.shop.home.mkdir(parents=True, exist_ok=True)
    with (desk.shop.home / "watch.log").open("wb") as log:
        subprocess.Popen(
            [sys.executable, "-m", "runner.cli", "github", "watch", "--store", desk.shop.store_uri],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env={**environ, "PUSHTRAIN_HOME": str(desk.shop.home)},
            start_new_session=True,
        )


def silent(desk: Desk, shop: Workshop, said: Said) -> Attendance:
    """A follower that prints nothing."""
    return Attendance(desk, shop, said, every_s=1.0, show=_nothing)


def _due(desk: Desk) -> Iterator[Said]:
    store = desk.shop.store
    for key in memory.due(store, desk.name):
        said = memory.load(store, desk.name, key)
        if said is not None:
            yield said


def _send(desk: Desk, said: Said) -> bool:
    store = desk.shop.store
    try:
        run = runs.load(store, said.run_id)
    except RunNotFound:
        if time.time() - runs.asked_at_s(said.run_id) > NEVER_STARTED_S:
            memory.close_outbox(store, said)
        return True
    if not run.state.ended:
        return _goes_on_alone(desk, said, run)
    logger.info("saying what is left to say of %s", said.run_id)
    attendance = silent(desk, desk.shop, said)
    attendance.look()
    finish.last_word(attendance)
    return attendance.voice.said.closed


def _goes_on_alone(desk: Desk, said: Said, run: Run) -> bool:
    """A run that goes on is told of by whoever follows it. One whose supervisor is gone, as after a machine went off,
    is taken up again; what it comes to is said by the next.
    """
    shop = replace(desk.shop, engine_name=run.engine)
    if pipeline.supervised(shop, run):
        return True
    attendance = silent(desk, shop, said)
    attendance.look()
    try:
        pipeline.resume(shop, run)
    except PushtrainError as error:
        attendance.tell(notes=(f"its supervisor is gone: {error}; pushtrain resume {run.id}",), lost=True)
        return False
    logger.warning("%s: its supervisor was gone; it is taken up again", run.id)
    attendance.voice.detach()
    attendance.tell(notes=("its supervisor was gone, and it was taken up again",))
    if desk.token_lasts:
        leave_watcher(desk)
    return True


def _nothing(_: Event) -> None:
    """Shows nothing."""
