"""Watchers that come and go, several at once too: each commit and comment is started once, and none is lost."""

from __future__ import annotations

import contextlib
import subprocess

import pytest

from runner import pipeline
from tests.engines.project import wait_for
from tests.watcher.scene import Scene, kill, stop

LONG = "print('begun', flush=True)\nhold()\n"


def test_two_watchers_on_two_machines_start_a_commit_and_a_comment_once(scene: Scene) -> None:
    other = scene.machine("other")
    pull = scene.pull()
    commands = [scene.watching(), scene.watching(on=other)]
    scene.push()
    scene.comment(pull, "/train accuracy=0.8")
    scene.until_runs(2)
    for run_id in scene.project.run_ids:
        scene.until_ended(run_id)
    scene.until_nothing_is_due()
    for _ in range(2):
        scene.until_looked_again()
    assert [stop(each).code for each in commands] == [0, 0]
    assert len(scene.project.run_ids) == 2
    assert len(scene.repository.checks()) == 2
    assert len(scene.answers(pull)) == 1
    assert [each.tag for each in scene.repository.releases()] == ["digits@v1.0.0"]


def test_a_second_watcher_of_a_machine_waits_for_the_end_of_the_first(scene: Scene) -> None:
    first = scene.watching()
    second = scene.watch()
    wait_for(lambda: "waiting for its end" in second.output, what="a second that waits", told=scene.heard)
    kill(first)
    scene.push()
    scene.until_check(status="completed")
    assert stop(second).code == 0
    assert len(scene.project.run_ids) == 1


def test_a_commit_that_a_watcher_claimed_and_did_not_start_is_started_by_another(scene: Scene) -> None:
    other = scene.machine("other")
    scene.once()
    slow = scene.github.fault(path="upload-pack", delay_s=20, times=1)
    command = scene.watch()
    scene.push()
    wait_for(lambda: slow.hits, what="a fetch", told=scene.heard)
    assert scene.claims()
    kill(command)
    assert not scene.project.run_ids
    scene.watch(on=other)
    scene.until_check(status="completed", conclusion="success")
    assert len(scene.project.run_ids) == 1


def test_the_watcher_of_the_same_machine_takes_its_claim_up_at_once(scene: Scene) -> None:
    scene.once()
    slow = scene.github.fault(path="upload-pack", delay_s=20, times=1)
    command = scene.watch()
    scene.push()
    wait_for(lambda: slow.hits, what="a fetch", told=scene.heard)
    kill(command)
    assert scene.once().code == 0
    scene.project.until("succeeded")
    assert len(scene.project.run_ids) == 1


def test_a_watcher_that_was_killed_goes_on_with_the_run_that_it_had_started(scene: Scene) -> None:
    command = scene.watching()
    scene.push(LONG, metrics=None, release=None)
    scene.until_check(status="in_progress")
    kill(command)
    again = scene.watch()
    scene.project.until_prints("begun")
    scene.project.let_go()
    check = scene.until_check(status="completed")
    assert check.conclusion == "success"
    assert len(scene.repository.checks()) == 1
    assert stop(again).code == 0


def test_sigterm_ends_the_watcher_and_no_run(scene: Scene) -> None:
    command = scene.watching()
    scene.push(LONG, metrics=None, release=None)
    scene.project.until_prints("begun")
    done = stop(command)
    assert done.code == 0
    assert "runs go on" in done.output
    assert scene.run.state == "running"
    scene.project.let_go()
    scene.project.until("succeeded")
    assert scene.once("--publish-only").code == 0
    assert scene.until_check(status="completed").conclusion == "success"


@pytest.mark.slow
def test_watchers_that_are_killed_at_any_moment_lose_nothing_and_start_nothing_twice(scene: Scene) -> None:
    machines = [scene.project, scene.machine("other")]
    scene.once()
    pushed = []
    for number in range(12):
        pushed.append(scene.push(f"print({number})\n", branch="main", metrics=None, release=None).commit)
        command = scene.watch(on=machines[number % 2])
        with contextlib.suppress(subprocess.TimeoutExpired):
            command.child.wait(0.8 + 0.2 * number)
        kill(command)
    commands = [scene.watch(on=each) for each in machines]
    wait_for(scene.all_is_said, what="an end of all", within_s=240, told=scene.heard)
    scene.until_looked_again()
    assert [stop(each).code for each in commands] == [0, 0]
    asked = [pipeline.plan_of(scene.project.store, each).asked.commit for each in scene.project.run_ids]
    assert len(asked) == len(set(asked)), "a commit was started twice"
    assert pushed[-1] in asked
    checks = [(each.commit, each.conclusion) for each in scene.repository.checks()]
    assert sorted(checks) == sorted((commit, "success") for commit in asked)
