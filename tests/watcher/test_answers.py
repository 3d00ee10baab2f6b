"""A comment's commands and their answers, through outages and restarts: obeyed, and answered, once."""

from __future__ import annotations

import os

import pytest

from tests.engines.project import wait_for
from tests.watcher.scene import Scene, kill, stop


def unanswered(scene: Scene, path: str) -> None:
    """GitHub says once that it is to be asked again later than anybody waits."""
    scene.github.fault(status=429, retry_after_s=25, method="POST", path=path, times=1)


@pytest.mark.parametrize(
    ("body", "said"), [("/train accuracy=abc", "accuracy"), ("/train status", "run"), ("/train cancel", "")]
)
def test_an_answer_that_github_does_not_take_is_given_later(scene: Scene, body: str, said: str) -> None:
    pull = scene.pull()
    scene.once()
    unanswered(scene, "/comments$")
    scene.comment(pull, body)
    command = scene.watch()
    wait_for(lambda: scene.answers(pull), what="an answer", told=scene.heard, within_s=90)
    scene.until_looked_again()
    (answer,) = scene.answers(pull)
    assert said in answer
    assert stop(command).code == 0


def test_a_faulty_train_yml_is_told_of_after_an_outage(scene: Scene) -> None:
    scene.once()
    unanswered(scene, "/check-runs$")
    scene.push(timeout={"run": "soon"})
    command = scene.watch()
    check = scene.until_check(status="completed", conclusion="failure")
    assert check.annotations
    assert stop(command).code == 0


def test_a_promotion_in_the_middle_of_which_the_machine_went_off_is_made_by_the_next(scene: Scene) -> None:
    pull = scene.pull()
    scene.job(scene.push())
    scene.once()
    fault = scene.github.fault(status=502, method="POST", path="/git/", times=None)
    scene.comment(pull, "/promote digits@1.0.0 production")
    command = scene.watch()
    wait_for(lambda: fault.hits, what="a try to promote", told=scene.heard, within_s=90)
    kill(command)
    fault.times = 0
    again = scene.watch()
    scene.until_reaction(pull, "rocket")
    assert "digits#production#1" in scene.repository.tags
    (answer,) = scene.answers(pull)
    assert "production" in answer
    assert stop(again).code == 0


def test_a_promotion_that_was_not_answered_before_the_machine_went_off_is_answered_by_the_next(
    scene: Scene,
) -> None:
    pull = scene.pull()
    scene.job(scene.push())
    scene.once()
    fault = scene.github.fault(status=502, method="POST", path="/comments$", times=None)
    scene.comment(pull, "/promote digits@1.0.0 production")
    command = scene.watch()
    wait_for(lambda: fault.hits, what="a try to answer", told=scene.heard, within_s=90)
    kill(command)
    fault.times = 0
    again = scene.watch()
    scene.until_reaction(pull, "rocket")
    (answer,) = scene.answers(pull)
    assert "production" in answer
    assert [each for each in scene.repository.tags if "#" in each] == ["digits#production#1"]
    assert stop(again).code == 0


def test_a_promotion_in_a_comment_that_is_edited_is_neither_made_nor_answered_again(scene: Scene) -> None:
    pull = scene.pull()
    scene.job(scene.push())
    comment = scene.repository.comment(pull.number, "/promote digits@1.0.0 production", by="ada")
    assert scene.job(scene.told(comment, pull)).code == 0
    scene.repository.edit(comment, "Look:\n\n/promote digits@1.0.0 production\n/train help")
    assert scene.job(scene.told(comment, pull, edited=True)).code == 0
    first, second = scene.answers(pull)
    assert "production" in first
    assert "what can be typed here" in second
    assert "digits@1.0.0" not in second
    assert [each for each in scene.repository.tags if "#" in each] == ["digits#production#1"]


@pytest.mark.skipif(os.geteuid() != 0, reason="what root is told")
def test_root_is_told_what_trainings_beside_its_watcher_can_read(scene: Scene) -> None:
    assert "trainings run as root on this machine" in scene.once().output
    assert "trainings run as root" not in scene.once("--publish-only").output
    assert "trainings run as root" not in scene.once("--engine", "docker").output
