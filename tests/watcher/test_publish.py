"""What nobody said of a run is said by the fleet, with its own token."""

from __future__ import annotations

import pytest

from tests.answer.scene import TRAINS
from tests.engines.project import wait_for
from tests.watcher.scene import Scene, kill, stop

LONG = "print('begun', flush=True)\nhold()\n"


def test_a_run_whose_job_is_gone_is_told_of_and_published_by_the_fleet(scene: Scene) -> None:
    job = scene.start(scene.push(f"print('begun', flush=True)\nhold()\n{TRAINS}"))
    scene.until_check(status="in_progress")
    kill(job)
    command = scene.project.start(
        "watch", "--publish-only", "--every", "1s", "--token-file", str(scene.token_file())
    )
    scene.project.until_prints("begun")
    scene.project.let_go()
    check = scene.until_check(status="completed")
    scene.until_released("digits@v1.0.0")
    scene.until_nothing_is_due()
    assert stop(command).code == 0
    assert (check.conclusion, len(scene.repository.checks()), len(scene.project.run_ids)) == ("success", 1, 1)


def test_a_publisher_with_another_home_on_the_same_machine_takes_over_at_once(scene: Scene) -> None:
    job = scene.start(scene.push(LONG, metrics=None, release=None))
    scene.until_check(status="in_progress")
    scene.project.until_prints("begun")
    kill(job)
    scene.project.let_go()
    scene.project.until("succeeded")
    other = scene.machine("other")
    assert scene.watch("--publish-only", "--once", on=other).finish().code == 0
    assert (scene.check.status, scene.check.conclusion) == ("completed", "success")
    scene.until_nothing_is_due()


def test_once_says_what_is_due_and_ends(scene: Scene) -> None:
    job = scene.start(scene.push(LONG, metrics=None, release=None))
    scene.until_check(status="in_progress")
    scene.project.until_prints("begun")
    kill(job)
    once = ("watch", "--publish-only", "--once", "--token-file", str(scene.token_file()))
    assert scene.project.pushtrain(*once).code == 0
    assert scene.run.state == "running"
    scene.project.let_go()
    scene.project.until("succeeded")
    assert scene.project.pushtrain(*once).code == 0
    assert (scene.check.status, scene.check.conclusion) == ("completed", "success")
    scene.until_nothing_is_due()


def test_a_run_that_its_job_follows_is_left_to_the_job(scene: Scene) -> None:
    job = scene.start(scene.push(LONG, metrics=None, release=None))
    scene.until_check(status="in_progress")
    scene.project.until_prints("begun")
    other = scene.machine("other")
    command = scene.watch("--publish-only", on=other)
    wait_for(lambda: "watching" in command.output, what="a watcher", told=scene.heard)
    scene.project.let_go()
    assert job.finish().code == 0
    assert scene.check.conclusion == "success"
    assert stop(command).code == 0
    assert len(scene.repository.checks()) == 1


def test_publish_only_starts_nothing(scene: Scene) -> None:
    scene.once()
    scene.push()
    assert scene.once("--publish-only").code == 0
    assert not scene.project.run_ids


@pytest.mark.parametrize("mode", [0o640, 0o604])
def test_a_token_that_others_may_read_is_not_used(scene: Scene, mode: int) -> None:
    file = scene.token_file(mode=mode)
    done = scene.project.pushtrain("watch", scene.repository.name, "--once", "--token-file", str(file))
    assert done.code == 64
    assert f"chmod 600 {file}" in done.output
    assert scene.token not in done.output


def test_nobody_is_told_that_it_watches_without_a_token(scene: Scene) -> None:
    absent = str(scene.folder / "absent")
    done = scene.project.pushtrain("watch", scene.repository.name, "--token-file", absent)
    assert (done.code, "watching" in done.output) == (64, False)
    assert f"{absent} cannot be read" in done.output


def test_a_wrong_name_and_a_wrong_token_are_told_at_once(scene: Scene) -> None:
    file = str(scene.token_file())
    assert scene.project.pushtrain("watch", "digits", "--token-file", file).code == 64
    assert scene.project.pushtrain("watch", "--token-file", file).code == 64
    absent = scene.project.pushtrain("watch", "lab/absent", "--token-file", file)
    assert (absent.code, "lab/absent" in absent.output) == (79, True)
    scene.github.expire(scene.token)
    assert scene.project.pushtrain("watch", scene.repository.name, "--token-file", file).code == 79


def test_the_token_is_in_nobodys_environment_and_no_arguments(scene: Scene) -> None:
    script = "import os\nassert not [1 for value in os.environ.values() if 'ghs_' in value]\n" + LONG
    command = scene.watching()
    scene.push(script, metrics=None, release=None)
    scene.project.until_prints("begun")
    assert scene.processes_with(scene.token) == []
    scene.project.let_go()
    scene.project.until("succeeded")
    assert stop(command).code == 0
