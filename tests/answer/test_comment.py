"""What people write in pull requests, and what comes of it."""

from __future__ import annotations

import hashlib
import time
from dataclasses import replace

import pytest

from runner.trigger.comment import commands
from tests.answer.scene import TRAINS, Scene, files


def test_train_in_a_comment_trains_the_head_with_other_inputs(scene: Scene) -> None:
    pull = scene.pull()
    done = scene.job(scene.comment(pull, "Try this, please\n\n/train accuracy=0.8"))
    assert done.code == 0, done.output
    run = scene.run
    assert (run.inputs, run.branch, run.state) == ({"accuracy": 0.8}, "try", "succeeded")
    assert run.commit == scene.repository.head("try")
    assert run.release is None, "it releases from main"
    assert scene.check.commit == run.commit
    assert scene.reactions(pull) == ["eyes", "rocket"]
    (answer,) = scene.answers(pull)
    assert answer.startswith("<!-- pushtrain:digits -->")
    assert "0.8" in answer


def test_the_next_run_of_a_pull_request_rewrites_its_comment(scene: Scene) -> None:
    pull = scene.pull()
    scene.job(scene.comment(pull, "/train accuracy=0.8"))
    scene.job(scene.comment(pull, "/train accuracy=0.7"))
    (answer,) = scene.answers(pull)
    assert all(run_id in answer for run_id in scene.project.run_ids)


def test_several_commands_in_one_comment_are_all_done(scene: Scene) -> None:
    pull = scene.pull()
    done = scene.job(scene.comment(pull, "/train accuracy=0.8\n/train accuracy=0.7\n/train help"))
    assert done.code == 0, done.output
    assert len(scene.project.run_ids) == 2
    assert len(scene.repository.checks()) == 2
    assert any("what can be typed here" in each for each in scene.answers(pull))


def test_a_comment_in_a_quote_or_in_code_starts_nothing(scene: Scene) -> None:
    pull = scene.pull()
    done = scene.job(scene.comment(pull, "> /train\n\n```\n/train\n```\n\n    /train\n"))
    assert (done.code, scene.project.run_ids) == (0, ())
    assert scene.repository.comments(pull.number)[1:] == []


def test_a_comment_that_was_edited_starts_nothing_twice(scene: Scene) -> None:
    pull = scene.pull()
    comment = scene.repository.comment(pull.number, "/train accuracy=0.8", by="ada")
    scene.job(scene.told(comment, pull))
    scene.repository.edit(comment, "Look:\n\n/train accuracy=0.8")
    again = scene.job(scene.told(comment, pull, edited=True))
    assert again.code == 0, again.output
    assert len(scene.project.run_ids) == 1


def test_a_mistake_is_answered_with_the_line_to_type(scene: Scene) -> None:
    pull = scene.pull()
    done = scene.job(scene.comment(pull, "/train acuracy=0.8"))
    assert done.code != 0
    assert scene.project.run_ids == ()
    (answer,) = scene.answers(pull)
    assert "did you mean" in answer
    assert "accuracy" in answer
    assert scene.reactions(pull) == ["eyes", "confused"]


def test_who_may_not_write_starts_nothing(scene: Scene) -> None:
    pull = scene.pull()
    done = scene.job(scene.comment(pull, "/train", by="eve"))
    assert done.code == 77
    assert scene.project.run_ids == ()
    (answer,) = scene.answers(pull)
    assert "needs the role write" in answer


def test_a_role_that_was_taken_away_counts_at_once(scene: Scene) -> None:
    pull = scene.pull()
    scene.job(scene.comment(pull, "/train accuracy=0.8"))
    scene.repository.grant("ada", "read")
    assert scene.job(scene.comment(pull, "/train accuracy=0.7")).code == 77
    assert len(scene.project.run_ids) == 1


def test_roles_are_those_of_the_base_branch(scene: Scene) -> None:
    pull = scene.pull(on={"comment": {"roles": ["read"]}})
    assert scene.job(scene.comment(pull, "/train", by="eve")).code == 77


def test_a_head_that_moved_after_the_comment_has_to_be_named(scene: Scene) -> None:
    pull = scene.pull()
    comment = scene.repository.comment(pull.number, "/train", by="ada", at_s=time.time() - 30)
    scene.repository.push("try", files(TRAINS + "\nprint('evil')"), "Sneak in", by="eve")
    done = scene.job(scene.told(comment, pull))
    assert (done.code, scene.project.run_ids) == (77, ())
    (answer,) = scene.answers(pull)
    assert f"/train {scene.repository.head('try')}" in answer
    named = scene.job(scene.comment(pull, f"/train {scene.repository.head('try')}"))
    assert named.code == 0, named.output


def test_a_fork_needs_its_commit_in_the_comment_and_a_container(scene: Scene) -> None:
    fork = scene.repository.fork("mallory")
    fork.push("main", files(TRAINS + "\nprint('theirs')"), "Theirs", by="mallory")
    pull = scene.repository.pull("main", of=fork, by="mallory")
    assert scene.job(scene.comment(pull, "/train")).code == 77
    assert f"/train {fork.head()}" in scene.answers(pull)[-1]
    local = scene.job(scene.comment(pull, f"/train {fork.head()}"))
    assert local.code != 0
    assert scene.project.run_ids == ()
    assert "docker" in scene.answers(pull)[-1]


def test_cancel_stops_the_runs_of_the_pull_request(scene: Scene) -> None:
    pull = scene.pull("hold()")
    job = scene.start(scene.comment(pull, "/train"))
    scene.project.until("running")
    asked = scene.job(scene.comment(pull, "/train cancel"))
    assert asked.code == 0, asked.output
    job.finish()
    assert scene.run.state == "cancelled"
    assert "ada" in scene.run.reason
    assert scene.check.conclusion == "cancelled"


def test_status_lists_the_runs(scene: Scene) -> None:
    pull = scene.pull()
    scene.job(scene.comment(pull, "/train"))
    scene.job(scene.comment(pull, "/train status"))
    assert scene.run.id in scene.answers(pull)[-1]


def test_promote_gives_a_stage_on_github_and_in_the_store(scene: Scene) -> None:
    scene.job(scene.push())
    pull = scene.pull()
    done = scene.job(scene.comment(pull, "/promote digits@1.0.0 production"))
    assert done.code == 0, done.output
    assert "digits#production#1" in scene.repository.tags
    shown = scene.project.pushtrain("models", "show", "digits#production")
    assert "1.0.0" in shown.output


def test_faults_of_train_yml_are_told_on_their_lines(scene: Scene) -> None:
    pull = scene.pull(timeout={"run": "soon"})
    done = scene.job(scene.comment(pull, "/train"))
    assert done.code == 65
    check = scene.check
    assert check.conclusion == "failure"
    (annotation,) = check.annotations
    assert annotation["path"] == "train.yml"


@pytest.mark.parametrize("body", ["/train\u200b", "/trainer", "please /train", "/TRAIN", "\\/train"])
def test_what_only_looks_like_a_command_is_none(scene: Scene, body: str) -> None:
    pull = scene.pull()
    scene.job(scene.comment(pull, body))
    assert scene.project.run_ids == ()


def test_a_bot_starts_nothing(scene: Scene) -> None:
    scene.github.user("robot[bot]", "Bot")
    pull = scene.pull()
    assert scene.job(scene.comment(pull, "/train", by="robot[bot]")).code == 0
    assert scene.project.run_ids == ()


def test_a_promotion_that_an_older_pushtrain_made_is_not_made_again_by_a_job_that_is_run_again(
    scene: Scene,
) -> None:
    pull = scene.pull()
    scene.job(scene.push())
    comment = scene.repository.comment(pull.number, "/promote digits@1.0.0 production", by="ada")
    (promotion,) = commands(comment.body)
    meant = repr((replace(promotion, line=""), 0))
    scene.project.store.write(_said(scene, comment.id, meant, "-done"), b"")
    done = scene.job(scene.told(comment, pull))
    assert done.code == 0, done.output
    assert not [each for each in scene.repository.tags if "#" in each]
    assert scene.answers(pull) == []


def test_an_answer_that_an_older_pushtrain_gave_is_not_given_again(scene: Scene) -> None:
    pull = scene.pull()
    event = scene.comment(pull, "/train help")
    scene.job(event)
    (answer,) = scene.answers(pull)
    mark, _, text = answer.partition("\n")
    comment = int(mark.rpartition("<!-- ")[2].partition("-")[0])
    store = scene.project.store
    for key in list(store.keys(f"github/{scene.repository.name}/said/")):
        store.delete(key)
    store.write(_said(scene, comment, f"<!-- pushtrain:/answer -->\n{text}"), b"")
    assert scene.job(event).code == 0
    assert len(scene.answers(pull)) == 1


def _said(scene: Scene, comment: int, text: str, end: str = "") -> str:
    """Where an older pushtrain remembered what it had done or said."""
    digest = hashlib.sha256(text.encode()).hexdigest()[:16]
    return f"github/{scene.repository.name}/said/{comment}-{digest}{end}"
