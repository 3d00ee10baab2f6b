"""Runs of one group on a real engine: one after the other, or the newer in place of the older."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from runner import pipeline, runs, spec
from runner.pipeline import Workshop
from runner.plan import Asked
from runner.runs import Run, State
from tests.engines.project import Project, wait_for

SAVES = """
import signal
def save(*_):
    open("outputs/saved", "w").write("in time")
    sys.exit(0)
signal.signal(signal.SIGTERM, save)
print("ready", flush=True)
hold()
"""


def submit(project: Project, *, branch: str = "main") -> str:
    """Start a run as a push to a branch does; returns its id."""
    shop = Workshop(home=project.home, store_uri=project.store_uri, engine_name=project.engine, registry=None)
    asked = Asked(
        trigger="push",
        commit="c" * 40,
        branch=branch,
        dirty=False,
        by="ann",
        repository="ann/digits",
        base="main",
    )
    planned = pipeline.make_plan(
        shop,
        project.folder,
        train_file="train.yml",
        overrides=(),
        asked=asked,
        trusted=spec.load(project.folder / "train.yml"),
    )
    try:
        return pipeline.submit(shop, planned)
    finally:
        planned.source.close()


def until(project: Project, run_id: str, *states: State) -> Run:
    """That run once it is in one of the states."""

    def there() -> Run | None:
        known = {run.id: run for run in runs.listing(project.store)}
        return known[run_id] if run_id in known and known[run_id].state in states else None

    found = wait_for(there, what=f"{run_id} is {' or '.join(states)}", told=project.told)
    assert found is not None
    return found


def let_go(project: Project, run_id: str) -> None:
    (project.home / "scratch" / run_id / "node-0" / "work" / "go").touch()


def test_the_second_waits_until_the_first_has_ended(local_project: Project) -> None:
    local_project.write("print('ready', flush=True); hold()", concurrency="${{ ref }}")
    first = submit(local_project)
    local_project.until_prints("ready", run_id=first)
    second, third = submit(local_project), submit(local_project)
    waiting = [until(local_project, each, State.WAITING) for each in (second, third)]
    assert all(each.group == "ann/digits: job: main" for each in waiting)
    last = max(waiting, key=lambda run: run.reason)
    assert re.fullmatch(rf"3rd in group main, behind {first}, ({second}|{third})", last.reason), waiting

    let_go(local_project, first)
    until(local_project, first, State.SUCCEEDED)
    middle = second if last.id == third else third
    local_project.until_prints("ready", run_id=middle)
    assert runs.load(local_project.store, middle).reason == ""
    assert not runs.load(local_project.store, last.id).attempts
    let_go(local_project, middle)
    local_project.until_prints("ready", run_id=last.id)
    let_go(local_project, last.id)
    until(local_project, last.id, State.SUCCEEDED)


def test_a_newer_run_ends_the_older_ones_and_their_outputs_are_kept(project: Project) -> None:
    project.write(SAVES, concurrency={"group": "${{ ref }}", "cancel-in-progress": True})
    first = submit(project)
    project.until_prints("ready", run_id=first)

    second = submit(project)
    ended = until(project, first, State.CANCELLED)
    project.until_prints("ready", run_id=second)
    elsewhere = submit(project, branch="feature")
    project.until_prints("ready", run_id=elsewhere)

    assert ended.reason == f"superseded by {second}; outputs so far are kept"
    assert ended.exit_code == 130
    assert project.outputs(first) == {"outputs/saved": b"in time"}
    for run_id in (second, elsewhere):
        let_go(project, run_id)
        until(project, run_id, State.SUCCEEDED)


def test_a_run_that_waits_is_replaced_without_an_attempt(local_project: Project) -> None:
    local_project.write("print('ready', flush=True); hold()", concurrency="one")
    first = submit(local_project)
    local_project.until_prints("ready", run_id=first)
    second = submit(local_project)
    until(local_project, second, State.WAITING)

    runs.request_cancel(local_project.store, second, how="stop", why="cancelled by ann on the pull request")
    ended = until(local_project, second, State.CANCELLED)

    assert (ended.reason, ended.attempts) == ("cancelled by ann on the pull request", ())
    let_go(local_project, first)
    until(local_project, first, State.SUCCEEDED)


def test_a_run_that_was_left_alone_does_not_hold_up_the_next(
    local_project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PUSHTRAIN_LEASE_S", "1")
    local_project.write("print('ready', flush=True); hold()", concurrency="one")
    first = submit(local_project)
    local_project.until_prints("ready", run_id=first)
    local_project.kill("runner.supervise")

    second = submit(local_project)
    waiting = until(local_project, second, State.WAITING, State.RUNNING)
    local_project.until_prints("ready", run_id=second)

    assert "has no supervisor: pushtrain resume" in waiting.reason or waiting.state is State.RUNNING
    (ranks,) = {Path(f"/proc/{pid}/cwd").resolve().parents[1].name for pid in local_project.ranks()}
    assert ranks == second
    let_go(local_project, second)
    until(local_project, second, State.SUCCEEDED)
    assert local_project.pushtrain("cancel", first).code == 0


def test_the_time_in_a_groups_queue_has_a_limit(local_project: Project) -> None:
    local_project.write(
        "print('ready', flush=True); hold()", concurrency="one", timeout={"queue": "1s", "grace": "1s"}
    )
    first = submit(local_project)
    local_project.until_prints("ready", run_id=first)

    second = submit(local_project)
    ended = until(local_project, second, State.FAILED)

    assert (ended.reason, ended.exit_code) == ("timeout.queue: its turn did not come within 1 s", 75)
    let_go(local_project, first)
    until(local_project, first, State.SUCCEEDED)
