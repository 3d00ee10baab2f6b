"""A run whose job is gone, and a fleet with a token of its own: nothing stays open, nothing is told wrongly."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from runner.answer import said
from tests.answer.scene import TRAINS, files, train_yml
from tests.engines.project import HELD, Command, Project, wait_for
from tests.services.github.state import CheckRun
from tests.watcher.scene import Scene, kill, stop

LONG = "print('begun', flush=True)\nhold()\n"
ALL = {"contents": "write", "checks": "write", "pull_requests": "write", "issues": "write"}


def orphan(scene: Scene, script: str = LONG, **sections: Any) -> CheckRun:
    """A run that succeeded after its job had died; returns the check that the job left in progress."""
    job = scene.start(scene.push(script, metrics=None, **sections))
    check = scene.until_check(status="in_progress")
    scene.project.until_prints("begun")
    kill(job)
    scene.project.let_go()
    scene.project.until("succeeded")
    return check


def fleet(scene: Scene, token: str, *options: str, environ: Mapping[str, str] | None = None) -> Command:
    """The watcher of a fleet with a token of its own."""
    other = scene.machine("fleet")
    other.environ |= environ or {}
    path = scene.token_file(token).rename(scene.folder / "fleets-token")
    return _publish(other, path, *options)


def _publish(other: Project, path: Path, *options: str) -> Command:
    return other.start("watch", "--publish-only", "--every", "1s", "--token-file", str(path), *options)


def app_of(scene: Scene, **permissions: str) -> tuple[str, dict[str, str]]:
    """The private key of an App of the fleet's own, and its environment."""
    app = scene.github.app("fleet", scene.repository.name, permissions=permissions or None)
    return app.private_key, {"PUSHTRAIN_APP_ID": str(app.id)}


def next_job(scene: Scene) -> None:
    """Any other job of the repository."""
    done = scene.job(scene.pushed({"docs/a.md": "a"}, branch="docs"))
    assert done.code == 0, done.output


def until_refused(scene: Scene, method: str) -> None:
    """Wait until the token may not make, or change, a check. What a job did before with its own is none."""
    wait_for(
        lambda: any(each.status == 403 for each in scene.github.api_calls(method, "check-runs")),
        what="a refusal",
        told=scene.heard,
        within_s=90,
    )


def is_due(scene: Scene) -> bool:
    return bool(said.due(scene.project.store, scene.repository.name))


def test_a_check_of_a_job_is_replaced_by_one_of_the_fleets_app_and_closed_by_the_next_job(
    scene: Scene,
) -> None:
    old = orphan(scene, release=None)
    key, environ = app_of(scene)
    command = fleet(scene, key, environ=environ)
    new = scene.until_check(status="completed", conclusion="success")
    assert (new.app.slug, new.name, new.commit) == ("fleet", old.name, old.commit)
    assert f"/runs/{old.id}" in str(new.output["summary"])
    assert old.status == "in_progress"
    assert is_due(scene)
    next_job(scene)
    assert (old.status, old.conclusion) == ("completed", "success")
    scene.until_nothing_is_due()
    assert len(scene.repository.checks()) == 2
    assert stop(command).code == 0


def test_a_fleet_that_may_make_no_checks_leaves_the_one_of_a_job_to_the_next_job(scene: Scene) -> None:
    old = orphan(scene, release=None)
    scene.repository.grant("carol", "write")
    command = fleet(scene, scene.github.personal_token("carol"))
    until_refused(scene, "PATCH")
    assert stop(command).code == 0
    assert old.status == "in_progress"
    assert is_due(scene)
    next_job(scene)
    assert (old.status, old.conclusion) == ("completed", "success")
    scene.until_nothing_is_due()
    assert len(scene.repository.checks()) == 1


def test_a_release_that_was_denied_is_told_of_and_published_once_the_token_may(scene: Scene) -> None:
    orphan(scene, LONG + TRAINS)
    token = scene.github.actions_token(scene.repository.name, permissions={**ALL, "contents": "read"})
    command = fleet(scene, token)
    check = scene.until_check(status="completed", conclusion="success")
    wait_for(lambda: "contents: write" in str(check.output), what="the reason", told=scene.heard, within_s=90)
    assert "whoever may make releases" in str(check.output)
    assert is_due(scene)
    scene.github.permit(token, ALL)
    scene.until_released("digits@v1.0.0")
    scene.until_nothing_is_due()
    assert "whoever may make releases" not in str(check.output)
    assert stop(command).code == 0


def test_a_check_that_the_token_may_not_change_for_a_while_is_closed_once_it_may_again(scene: Scene) -> None:
    command = scene.watching()
    scene.push(LONG, metrics=None, release=None)
    check = scene.until_check(status="in_progress")
    scene.project.until_prints("begun")
    scene.github.permit(scene.token, {**ALL, "checks": "read"})
    scene.project.let_go()
    until_refused(scene, "POST")
    scene.github.permit(scene.token, ALL)
    scene.until_nothing_is_due()
    assert (check.status, check.conclusion) == ("completed", "success")
    assert len(scene.repository.checks()) == 1
    assert stop(command).code == 0


def test_a_run_whose_secrets_are_gone_with_its_supervisor_ends_as_lost_with_what_to_type(
    scene: Scene,
) -> None:
    scene.environ = {"WANDB_API_KEY": "x" * 20}
    job = scene.start(scene.push(LONG, metrics=None, release=None, secrets=["WANDB_API_KEY"]))
    check = scene.until_check(status="in_progress")
    scene.project.until_prints("begun")
    kill(job)
    scene.project.kill("runner.supervise")
    del scene.project.environ["WANDB_API_KEY"]
    command = scene.watch("--publish-only")
    scene.until_check(status="completed", conclusion="failure")
    assert "WANDB_API_KEY" in str(check.output)
    assert f"pushtrain resume {scene.run.id}" in str(check.output)
    changes = len(scene.github.api_calls("PATCH", "check-runs"))
    tries = command.output.count("secrets that are not in the environment")
    wait_for(
        lambda: command.output.count("secrets that are not in the environment") > tries,
        what="one more try",
        told=scene.heard,
        within_s=90,
    )
    assert len(scene.github.api_calls("PATCH", "check-runs")) == changes, "it is said once"
    assert stop(command).code == 0
    scene.project.let_go()


@pytest.mark.parametrize("options", [(), ("-f", "train.yml")], ids=["all", "another file"])
def test_what_the_fleet_publishes_says_which_train_file_and_job_it_comes_from(
    scene: Scene, options: tuple[str, ...]
) -> None:
    content: dict[str, str | bytes | None] = {
        **files(),
        "models/big/train.yml": train_yml(metrics=None),
        "models/big/train.py": HELD + LONG + TRAINS,
    }
    job = scene.start(scene.pushed(content), run_id=4711, train_file="models/big/train.yml")
    scene.until_check(status="in_progress")
    scene.project.until_prints("begun")
    kill(job)
    scene.project.let_go()
    scene.project.until("succeeded")
    command = fleet(scene, scene.token, *options)
    scene.until_released("digits@v1.0.0")
    statement = _statement(scene)
    assert '"trainFile":"models/big/train.yml"' in statement
    assert "/actions/runs/4711" in statement
    assert stop(command).code == 0


def _statement(scene: Scene) -> str:
    """What nobody signed, as it was published."""
    assets = scene.repository.release("digits@v1.0.0").assets
    (found,) = [each for each in assets if each.name.startswith("provenance")]
    return json.dumps(json.loads(found.path.read_bytes()), separators=(",", ":"))
