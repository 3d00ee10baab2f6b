"""What GitHub does not answer is asked again: faults delay, and lose nothing."""

from __future__ import annotations

from typing import Any

import pytest

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
