"""A push trains without a workflow: run, check, release."""

from __future__ import annotations

import json

from runner import pipeline
from tests.answer.scene import files
from tests.watcher.scene import Scene, stop


def test_a_push_trains_and_ends_in_a_green_check_and_a_release(scene: Scene) -> None:
    command = scene.watching()
    scene.push()
    check = scene.until_check(status="completed")
    assert check.conclusion == "success", scene.heard()
    assert check.external_id == scene.run.id
    assert (scene.run.state, scene.run.branch) == ("succeeded", "main")
    asked = pipeline.plan_of(scene.project.store, scene.run.id).asked
    assert (asked.trigger, asked.by, asked.repository) == ("push", "ada", "lab/digits")
    scene.until_released("digits@v1.0.0")
    scene.until_nothing_is_due()
    assert stop(command).code == 0
    assert len(scene.project.run_ids) == 1


def test_the_fleet_may_be_an_app_whose_key_lies_in_the_file(scene: Scene) -> None:
    app = scene.github.app("fleet", scene.repository.name)
    scene.token = app.private_key
    scene.project.environ["PUSHTRAIN_APP_ID"] = str(app.id)
    command = scene.watching()
    scene.push(metrics=None, release=None)
    check = scene.until_check(status="completed", conclusion="success")
    assert check.app.slug == "fleet"
    assert list(check.actions) == [], "nobody would hear of a button"
    assert stop(command).code == 0


def test_what_is_there_at_the_first_look_is_taken_as_seen_and_what_comes_while_nobody_looks_is_not(
    scene: Scene,
) -> None:
    pull = scene.pull()
    scene.comment(pull, "/train")
    assert scene.once().code == 0
    assert not scene.project.run_ids
    commit = str(scene.push().commit)
    assert scene.once().code == 0
    (run_id,) = scene.project.run_ids
    assert pipeline.plan_of(scene.project.store, run_id).asked.commit == commit
    scene.project.until("succeeded")


def test_a_look_at_what_did_not_change_costs_nothing_of_the_limit(scene: Scene) -> None:
    scene.repository.tag("v1")
    scene.pull()
    scene.watching()
    scene.until_looked_again()
    scene.until_looked_again()
    before = len(scene.github.calls)
    scene.until_looked_again()
    later = [call for call in scene.github.calls[before:] if call.kind == "api"]
    assert later
    assert {(call.method, call.status) for call in later} == {("GET", 304)}


def test_branches_that_train_yml_does_not_name_start_nothing(scene: Scene) -> None:
    scene.once()
    scene.push(branch="idea")
    scene.repository.delete_branch("idea")
    scene.push(branch="other")
    done = scene.once()
    assert done.code == 0
    assert "on.push.branches: not other" in done.output
    assert not scene.project.run_ids


def test_new_branches_force_pushes_and_tags_train_as_train_yml_says(scene: Scene) -> None:
    on = {"push": {"branches": ["main", "lab/**"], "tags": ["v*"]}}
    scene.repository.push("main", files(on=on))
    scene.once()
    scene.push(branch="lab/one", on=on)
    assert scene.once().code == 0
    (first,) = scene.project.run_ids
    assert pipeline.plan_of(scene.project.store, first).asked.branch == "lab/one"
    forced = scene.repository.push(
        "lab/one", {"note.txt": "again"}, onto=scene.repository.head("main"), by="ada"
    )
    assert scene.once().code == 0
    assert pipeline.plan_of(scene.project.store, scene.project.run_ids[-1]).asked.commit == forced
    release = scene.repository.push("idea", files("print('v1')\n", on=on), by="ada")
    scene.repository.tag("v1", release, message="The first")
    assert scene.once().code == 0
    last = pipeline.plan_of(scene.project.store, scene.project.run_ids[-1]).asked
    assert (last.tag, last.commit, len(scene.project.run_ids)) == ("v1", release, 3)
    scene.repository.delete_branch("lab/one")
    assert scene.once().code == 0
    assert len(scene.project.run_ids) == 3
    for run_id in scene.project.run_ids:
        scene.until_ended(run_id)


def test_the_tags_of_models_train_nothing_whatever_train_yml_says(scene: Scene) -> None:
    on = {"push": {"branches": ["main"], "tags": ["**"]}}
    scene.repository.push("main", files(on=on))
    scene.once()
    for tag in ("digits@v1.2.0", "digits#production#3"):
        scene.repository.tag(tag, message="Ours")
    assert scene.once().code == 0
    assert not scene.project.run_ids


def test_a_train_yml_that_is_broken_is_a_failed_check_and_is_looked_at_once(scene: Scene) -> None:
    scene.once()
    scene.pushed({**files(), "train.yml": "name: [\n"})
    assert scene.once().code == 0
    assert scene.check.conclusion == "failure"
    assert scene.once().code == 0
    assert len(scene.repository.checks()) == 1
    assert not scene.project.run_ids


def test_since_begins_in_the_past(scene: Scene) -> None:
    event = scene.push()
    assert scene.once("--since", "1h").code == 0
    (run_id,) = scene.project.run_ids
    assert pipeline.plan_of(scene.project.store, run_id).asked.commit == event.commit
    scene.project.until("succeeded")


def test_from_now_takes_what_came_meanwhile_as_seen(scene: Scene) -> None:
    scene.once()
    scene.push()
    assert scene.once("--from-now").code == 0
    assert scene.once().code == 0
    assert not scene.project.run_ids


def test_what_the_store_keeps_of_a_watcher_holds_no_token(scene: Scene) -> None:
    scene.once()
    scene.push()
    scene.once()
    scene.project.until("succeeded")
    store = scene.project.store
    kept = {key: store.read(key) for key in store.keys("github/")}
    assert any(key.endswith("seen.json") for key in kept)
    assert not [key for key, data in kept.items() if scene.token.encode() in data]
    environ = json.dumps([line for line in scene.project.told().splitlines() if scene.token in line])
    assert environ == "[]"
