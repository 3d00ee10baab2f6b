from __future__ import annotations

from collections.abc import Sequence

import pytest

from runner import spec
from runner.errors import Refused
from runner.spec import Triggers
from runner.trigger import Push, Schedule
from runner.trigger.comment import Train
from runner.trigger.decision import check_role, pinned, push_is_passed_over, schedule_is_passed_over

HEAD = "a1" * 20
OLD = "b2" * 20


def on(text: str) -> Triggers:
    return spec.parse(f"name: digits\nrun: python train.py\non: {text}\n").on


def push(**changes: object) -> Push:
    fields: dict[str, object] = {
        "by": "ada",
        "commit": HEAD,
        "before": OLD,
        "branch": "main",
        "tag": None,
        "message": "Train longer",
        "deleted": False,
    }
    return Push(**{**fields, **changes})  # type: ignore[arg-type]  # as the fields are


def passed_over(made: Push, text: str, *, changed: Sequence[str] | None = ()) -> str | None:
    return push_is_passed_over(made, on(text), changed=lambda: changed)


def test_a_push_trains_where_the_base_branch_says_so() -> None:
    assert passed_over(push(), "push") is None
    assert passed_over(push(), "[comment]") == "`on:` of the base branch's train.yml has no push"


@pytest.mark.parametrize("word", ["[skip train]", "[skip ci]", "[ci skip]", "[no ci]"])
def test_a_push_whose_message_says_skip_trains_nothing(word: str) -> None:
    assert word in str(passed_over(push(message=f"Fix a typo {word}"), "push"))


def test_a_push_trains_only_on_the_branches_that_are_named() -> None:
    assert passed_over(push(branch="main"), "{push: {branches: [main, 'release/**']}}") is None
    assert passed_over(push(branch="release/1/x"), "{push: {branches: [main, 'release/**']}}") is None
    assert "not try" in str(passed_over(push(branch="try"), "{push: {branches: [main]}}"))


def test_a_tag_trains_only_where_tags_are_named() -> None:
    tagged = push(branch=None, tag="v1.2")
    assert passed_over(tagged, "{push: {tags: ['v*']}}") is None
    assert "not v1.2" in str(passed_over(tagged, "push"))
    assert "not v1.2" in str(passed_over(tagged, "{push: {branches: [main]}}"))
    assert "no branches" in str(passed_over(push(), "{push: {tags: ['v*']}}"))


def test_a_push_trains_only_where_a_named_path_changed() -> None:
    wanted = "{push: {paths: ['src/**']}}"
    assert passed_over(push(), wanted, changed=["docs/a.md", "src/a.py"]) is None
    assert "not the changed file" in str(passed_over(push(), wanted, changed=["docs/a.md"]))
    assert passed_over(push(), wanted, changed=None) is None, "what changed is not known"


def test_what_changed_is_not_asked_for_in_vain() -> None:
    def never() -> Sequence[str]:
        raise AssertionError("asked")

    assert push_is_passed_over(push(), on("push"), changed=never) is None
    assert (
        push_is_passed_over(
            push(branch=None, tag="v1"), on("{push: {tags: [v1], paths: [a]}}"), changed=never
        )
        is None
    )


def test_a_deleted_branch_trains_nothing() -> None:
    assert passed_over(push(deleted=True), "push") is not None


def test_the_clock_trains_where_the_base_branch_has_its_line() -> None:
    due = Schedule(cron="0 3 * * *", commit=HEAD, branch="main")
    assert schedule_is_passed_over(due, on("{schedule: ['0 3 * * *']}")) is None
    assert schedule_is_passed_over(due, on("{schedule: ['0 4 * * *']}")) is not None


def test_a_role_below_the_one_that_is_named_is_refused() -> None:
    allowed = on("{comment: {roles: [write]}}")
    check_role(allowed, login="ada", role="admin")
    with pytest.raises(Refused, match="needs the role write in this repository; eve has triage"):
        check_role(allowed, login="eve", role="triage")


def test_comments_that_the_base_branch_does_not_allow_are_refused() -> None:
    with pytest.raises(Refused, match="has no comment"):
        check_role(on("push"), login="ada", role="admin")


def asks(line: str = "/train lr=0.1", sha: str | None = None) -> Train:
    return Train(line=line, sha=sha, overrides=(), engine=None, fresh=False)


def pin(
    wish: Train, *, head_then: str | None = HEAD, fork: bool = False, commits: Sequence[str] = (OLD,)
) -> str:
    return pinned(wish, head=HEAD, head_then=head_then, commits=lambda: commits, fork=fork, word="/train")


def test_a_comment_means_the_head_that_its_author_saw() -> None:
    assert pin(asks()) == HEAD


@pytest.mark.parametrize("head_then", [OLD, None])
def test_a_head_that_moved_or_may_have_moved_has_to_be_named(head_then: str | None) -> None:
    with pytest.raises(Refused) as caught:
        pin(asks(), head_then=head_then)
    assert caught.value.tip == f"/train {HEAD} lr=0.1"


def test_a_commit_of_a_fork_has_to_be_named_in_full() -> None:
    with pytest.raises(Refused, match="comes from a fork") as caught:
        pin(asks(), fork=True)
    assert caught.value.tip == f"/train {HEAD} lr=0.1"
    with pytest.raises(Refused, match="in full") as caught:
        pin(asks(f"/train {HEAD[:12]} lr=0.1", sha=HEAD[:12]), fork=True)
    assert caught.value.tip == f"/train {HEAD} lr=0.1"
    assert pin(asks(f"/train {HEAD}", sha=HEAD), fork=True) == HEAD


def test_a_commit_may_be_named_by_its_beginning() -> None:
    assert pin(asks("/train b2b2b2b", sha="b2b2b2b"), head_then=None) == OLD
    assert pin(asks("/train B2B2B2B", sha="B2B2B2B"), head_then=None) == OLD


def test_a_commit_that_is_not_of_the_pull_request_is_refused() -> None:
    with pytest.raises(Refused, match="no commit of this pull request"):
        pin(asks("/train ccccccc", sha="ccccccc"))


def test_a_beginning_of_several_commits_is_refused() -> None:
    with pytest.raises(Refused, match="any of 2 commits"):
        pin(asks("/train b2b2b2b", sha="b2b2b2b"), commits=(OLD, OLD[:39] + "0"))
