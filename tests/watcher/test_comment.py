"""What people write in pull requests is obeyed by the rules that hold for the action."""

from __future__ import annotations

import time

import pytest

from runner import pipeline
from tests.answer.scene import files
from tests.watcher.scene import Scene

HOLDS = """
hold()
"""


def test_train_in_a_comment_trains_the_head_and_is_reported_in_the_pull_request(scene: Scene) -> None:
    pull = scene.pull()
    scene.watching()
    scene.comment(pull, "Try this\n\n/train accuracy=0.8")
    scene.until_reaction(pull, "rocket")
    run = scene.run
    assert (run.inputs, run.branch, run.state) == ({"accuracy": 0.8}, "try", "succeeded")
    assert run.commit == scene.repository.head("try")
    assert scene.reactions(pull) == ["eyes", "rocket"]
    (answer,) = scene.answers(pull)
    assert answer.startswith("<!-- pushtrain:digits -->")
    assert scene.check.conclusion == "success"


def test_who_may_not_is_told_so(scene: Scene) -> None:
    pull = scene.pull()
    scene.once()
    scene.comment(pull, "/train", by="eve")
    assert scene.once().code == 0
    assert not scene.project.run_ids
    (answer,) = scene.answers(pull)
    assert "eve has read" in answer
    assert scene.reactions(pull) == ["eyes", "confused"]
    assert scene.once().code == 0
    assert len(scene.answers(pull)) == 1


def test_a_forks_commit_has_to_be_named_and_is_not_started_where_it_cannot_be_kept_apart(
    scene: Scene,
) -> None:
    fork = scene.repository.fork("eve")
    fork.push("try", files(), by="eve")
    pull = scene.repository.pull("try", of=fork, by="eve")
    scene.once()
    scene.comment(pull, "/train")
    assert scene.once().code == 0
    scene.comment(pull, f"/train {fork.head('try')}")
    assert scene.once().code == 0
    assert not scene.project.run_ids
    first, second = scene.answers(pull)
    assert "comes from a fork, so name the commit" in first
    assert "needs the engine docker" in second


def test_a_head_that_moved_after_the_comment_is_not_trained(scene: Scene) -> None:
    pull = scene.pull()
    scene.once()
    scene.repository.comment(pull.number, "/train", by="ada", at_s=time.time() - 30)
    assert pull.pull is not None
    pull.pull.head = scene.repository.push("try", {"note.txt": "more"}, by="ada")
    assert scene.once().code == 0
    assert not scene.project.run_ids
    (answer,) = scene.answers(pull)
    assert "name the commit" in answer


def test_cancel_in_a_comment_cancels_the_runs_of_the_pull_request(scene: Scene) -> None:
    pull = scene.pull(HOLDS)
    scene.watching()
    scene.comment(pull, "/train")
    scene.project.until("running")
    scene.comment(pull, "/train cancel")
    scene.project.until("cancelled")
    assert "cancelled by ada" in scene.run.reason


def test_an_edit_by_the_author_counts_and_one_by_somebody_else_does_not(scene: Scene) -> None:
    scene.repository.grant("mallory", "write")
    pull = scene.pull()
    said = scene.repository.comment(pull.number, "Looks good", by="ada", at_s=time.time() - 30)
    scene.once()
    scene.repository.edit(said, "/train accuracy=0.8", by="mallory")
    done = scene.once()
    assert done.code == 0
    assert "edited by somebody else" in done.output
    assert not scene.project.run_ids
    scene.repository.edit(said, "Looks good", at_s=time.time() + 2)
    assert scene.once().code == 0
    assert not scene.project.run_ids
    scene.repository.edit(said, "/train accuracy=0.8", at_s=time.time() + 4)
    assert scene.once().code == 0
    (run_id,) = scene.project.run_ids
    assert pipeline.plan_of(scene.project.store, run_id).inputs == {"accuracy": 0.8}
    scene.project.until("succeeded")


def test_a_comment_that_was_deleted_before_anybody_looked_starts_nothing(scene: Scene) -> None:
    pull = scene.pull()
    scene.once()
    said = scene.repository.comment(pull.number, "/train", by="ada")
    scene.repository.delete_comment(said)
    assert scene.once().code == 0
    assert not scene.project.run_ids


@pytest.mark.parametrize(
    ("body", "by"), [("/train", "dependabot[bot]"), ("<!-- pushtrain:/answer -->\n/train", "ada")]
)
def test_bots_and_our_own_words_start_nothing(scene: Scene, body: str, by: str) -> None:
    pull = scene.pull()
    scene.github.user("dependabot[bot]", "Bot")
    scene.once()
    scene.repository.comment(pull.number, body, by=by)
    assert scene.once().code == 0
    assert not scene.project.run_ids


def test_a_comment_on_an_issue_starts_nothing(scene: Scene) -> None:
    issue = scene.repository.issue()
    scene.once()
    scene.repository.comment(issue.number, "/train", by="ada")
    assert scene.once().code == 0
    assert not scene.project.run_ids
