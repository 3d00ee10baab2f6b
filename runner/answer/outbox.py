"""What could not be said to GitHub when it happened -> said now, by whoever has a token."""

from __future__ import annotations

import calendar
import logging
import os
import subprocess
import sys
import time
from typing import TYPE_CHECKING

from runner import pipeline, runs
from runner.answer import finish, said
from runner.answer.attend import Attendance
from runner.errors import GitHubError, NotFound, PushtrainError, RunNotFound

if TYPE_CHECKING:
    from collections.abc import Sequence

    from runner.answer.accept import Accepted
    from runner.answer.desk import Desk
    from runner.follow import Event
    from runner.pipeline import Workshop

logger = logging.getLogger(__name__)

START_WITHIN_S = 10.0
# A run that has no run.json for so long was never started: its job died in between, and nobody asked again.
NEVER_STARTED_S = 24 * 3600.0


def send(desk: Desk) -> tuple[str, ...]:
    """Say what is due of runs that nobody follows any more; returns the runs of which something is left to say.

    Safe to repeat, and next to a job that follows its own runs: what GitHub has is not sent again.
    """
    left = []
    for run_id in said.due(desk.shop.store, desk.name):
        try:
            if not _send(desk, run_id):
                left.append(run_id)
        except GitHubError as error:
            logger.warning("%s: %s", run_id, error)
            return (*left, run_id)
        except PushtrainError as error:
            logger.warning("%s: %s", run_id, error)
            left.append(run_id)
    return tuple(left)


def announce(desk: Desk, accepted: Accepted) -> None:
    """Tell GitHub that the run is there, and follow it no further."""
    attendance = silent(desk, accepted.shop, accepted.run_id, command=accepted.wish.comment)
    deadline_s = time.monotonic() + START_WITHIN_S
    while True:
        try:
            attendance.look()
        except RunNotFound:
            if time.monotonic() > deadline_s:
                raise
            time.sleep(0.05)
        else:
            attendance.tell()
            return


def leave_watcher(desk: Desk, run_ids: Sequence[str]) -> None:
    """Start `pushtrain github watch`, which says what the runs come to after this job.

    It has the token, in its environment, and no mark of the job, by which GitHub's runner would end it.
    """
    store = desk.shop.store_uri
    folder = desk.shop.home / "scratch" / run_ids[-1]
    folder.mkdir(parents=True, exist_ok=True)
    environ = {name: value for name, value in os.environ.items() if name != "RUNNER_TRACKING_ID"}
    with (folder / "watch.log").open("ab") as log:
        subprocess.Popen(
            [sys.executable, "-m", "runner.cli", "github", "watch", "--store", store, *run_ids],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env={**environ, "PUSHTRAIN_HOME": str(desk.shop.home)},
            start_new_session=True,
        )


def silent(desk: Desk, shop: Workshop, run_id: str, *, command: int | None) -> Attendance:
    """A follower that prints nothing."""
    return Attendance(desk, shop, run_id, command=command, every_s=1.0, show=_nothing)


def _send(desk: Desk, run_id: str) -> bool:
    store = desk.shop.store
    try:
        run = runs.load(store, run_id)
        known = said.load(store, run_id)
        plan = pipeline.plan_of(store, run_id)
    except (RunNotFound, NotFound):
        if time.time() - _asked_at_s(run_id) > NEVER_STARTED_S:
            said.close(store, desk.name, run_id)
        return True
    if not run.state.ended:
        return True  # Whoever follows it says it; and when nobody does, it is said once it ended.
    logger.info("saying what is left to say of %s", run_id)
    command = known.command if known is not None else None
    attendance = silent(desk, desk.shop, run_id, command=command)
    attendance.look()
    assert plan.asked.repository == desk.name
    finish.last_word(desk, attendance)
    after = said.load(store, run_id)
    return after is not None and after.closed


def _asked_at_s(run_id: str) -> float:
    """When a run's id was made, which is in it."""
    return float(calendar.timegm(time.strptime(run_id[:15], "%Y%m%d-%H%M%S")))


def _nothing(_: Event) -> None:
    """Shows nothing."""
