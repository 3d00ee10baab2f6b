"""What GitHub does not answer is asked again: faults delay, and lose nothing."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest

from runner import pipeline
from tests.engines.project import wait_for
from tests.watcher.scene import Scene, stop


@pytest.mark.parametrize(
    "fault",
    [
        {"status": 502},
        {"status": 403, "retry_after_s": 2},
        {"status": 429, "retry_after_s": 2},
        {"reset": True},
    ],
    ids=str,
)
def test_faults_delay_a_push_and_lose_nothing(scene: Scene, fault: dict[str, Any]) -> None:
    scene.once()
    scene.push()
    hits = scene.github.fault(path="/repos/", times=6, **fault)
    command = scene.watch()
    check = scene.until_check(status="completed")
    assert hits.hits == 6
    assert (check.conclusion, len(scene.project.run_ids)) == ("success", 1)
    assert stop(command).code == 0


def test_an_outage_at_any_moment_of_a_comment_delays_it(scene: Scene) -> None:
    pull = scene.pull()
    scene.once()
    scene.comment(pull, "/train")
    hits = scene.github.fault(path=f"/pulls/{pull.number}$", status=502, times=6)
    command = scene.watch()
    scene.until_reaction(pull, "rocket")
    assert hits.hits == 6
    assert len(scene.project.run_ids) == 1
    assert "confused" not in scene.reactions(pull)
    assert stop(command).code == 0


def test_a_token_that_is_refused_is_read_again_from_its_file(scene: Scene) -> None:
    command = scene.watching()
    scene.github.expire(scene.token)
    scene.push()
    wait_for(lambda: "token" in command.output, what="a refusal", told=scene.heard)
    scene.token = scene.github.actions_token(scene.repository.name)
    scene.token_file()
    scene.until_check(status="completed", conclusion="success")
    assert stop(command).code == 0
    assert len(scene.project.run_ids) == 1


@pytest.mark.parametrize(
    "trouble",
    [
        {"type": "RATE_LIMITED", "message": "API rate limit exceeded"},
        {"message": "Something went wrong while executing your query"},
        {"type": "FORBIDDEN", "message": "Resource not accessible by integration"},
    ],
    ids=lambda trouble: trouble.get("type", "fault"),
)
def test_a_comment_of_which_graphql_tells_nothing_yet_waits(scene: Scene, trouble: dict[str, Any]) -> None:
    pull = scene.pull()
    scene.once()
    scene.comment(pull, "/train accuracy=0.8")
    fault = scene.github.fault(path="/graphql$", errors=(trouble,))
    first = scene.once()
    assert (first.code, fault.hits) == (79, 1)
    assert trouble["message"] in first.output
    if trouble.get("type") == "FORBIDDEN":
        assert "pull-requests: write" in first.output
    assert not scene.project.run_ids
    assert scene.once().code == 0
    assert len(scene.project.run_ids) == 1


def test_a_comment_that_is_edited_while_it_is_looked_at_counts_as_it_is_then(scene: Scene) -> None:
    pull = scene.pull()
    said = scene.repository.comment(pull.number, "Looks good", by="ada", at_s=time.time() - 30)
    scene.once()
    edited = threading.Event()
    slow = scene.github.fault(path="/graphql$", until=edited, times=1)
    scene.repository.edit(said, "/train accuracy=0.7", at_s=time.time() - 20)
    command = scene.watch("--once")
    wait_for(lambda: slow.hits, what="who edited it is asked", told=scene.heard, within_s=90)
    scene.repository.edit(said, "/train accuracy=0.8", at_s=time.time() - 10)
    edited.set()
    done = command.finish()
    assert (done.code, "is being edited" in done.output) == (79, True)
    assert not scene.project.run_ids
    assert scene.once().code == 0
    (run_id,) = scene.project.run_ids
    assert pipeline.plan_of(scene.project.store, run_id).inputs == {"accuracy": 0.8}
