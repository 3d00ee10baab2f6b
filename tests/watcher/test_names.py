"""A watcher that is told a repository's name in other letters is a watcher of the same repository."""

from __future__ import annotations

from tests.engines.project import Command, wait_for
from tests.watcher.scene import Scene, kill, stop

LONG = "print('begun', flush=True)\nhold()\n"


def shouted(scene: Scene, *options: str) -> Command:
    """Another machine, whose watcher is told the name in capitals."""
    other = scene.machine("other")
    token = ("--token-file", str(scene.token_file()))
    return other.start("watch", scene.repository.name.upper(), "--every", "1s", *token, *options)


def test_a_comment_that_two_watchers_see_by_two_spellings_is_obeyed_once(scene: Scene) -> None:
    pull = scene.pull()
    commands = [scene.watching(), shouted(scene)]
    wait_for(lambda: scene.github.api_calls("GET", "LAB/DIGITS$"), what="the other's look", told=scene.heard)
    scene.until_looked_again()
    scene.comment(pull, "/train accuracy=0.8")
    scene.until_reaction(pull, "rocket")
    for _ in range(2):
        scene.until_looked_again()
    scene.until_nothing_is_due()
    assert [stop(each).code for each in commands] == [0, 0]
    assert len(scene.project.run_ids) == 1
    assert len(scene.answers(pull)) == 1
    assert list(scene.project.store.children("github")) == ["lab"]


def test_a_run_whose_job_is_gone_is_told_of_by_a_watcher_that_spells_the_name_otherwise(scene: Scene) -> None:
    job = scene.start(scene.push(LONG, metrics=None, release=None))
    scene.until_check(status="in_progress")
    scene.project.until_prints("begun")
    kill(job)
    scene.project.let_go()
    scene.project.until("succeeded")
    assert shouted(scene, "--once").finish().code == 0
    assert (scene.check.status, scene.check.conclusion) == ("completed", "success")
    scene.until_nothing_is_due()
    assert list(scene.project.store.children("github")) == ["lab"]
