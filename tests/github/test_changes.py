"""What changed on a repository: every comment is told once, however others are edited meanwhile, and whose it is."""

from __future__ import annotations

from itertools import islice
from typing import Any

import pytest

from runner.errors import GitHubAbsent, GitHubDenied, GitHubDown
from runner.github import changes, people
from runner.github.changes import Written
from tests.github.ours import Ours, ours
from tests.services.github import GitHub
from tests.services.github.state import Comment

BEGIN_S = 1_700_000_000


def comments(mine: Ours, number: int, *, every_s: float = 10.0) -> list[Comment]:
    return [
        mine.theirs.comment(mine.pull, f"number {n}", by="ann", at_s=BEGIN_S + n * every_s)
        for n in range(number)
    ]


def the_comment(mine: Ours, body: str = "/train") -> tuple[Comment, Written]:
    said = mine.theirs.comment(mine.pull, body, by="ann", at_s=BEGIN_S)
    (found,) = changes.comments(mine.repository, since_s=BEGIN_S)
    return said, found


def test_a_comment_that_is_deleted_while_pages_are_read_hides_none(github: GitHub) -> None:
    mine = ours(github)
    there = comments(mine, 120)
    told = changes.comments(mine.repository, since_s=BEGIN_S)
    first = [each.id for each in islice(told, 100)]
    mine.theirs.delete_comment(there[3])
    assert first + [each.id for each in told] == [each.id for each in there]


def test_a_comment_that_is_edited_while_pages_are_read_hides_none_and_is_told_anew(github: GitHub) -> None:
    mine = ours(github)
    there = comments(mine, 120)
    told = changes.comments(mine.repository, since_s=BEGIN_S)
    first = [each.id for each in islice(told, 100)]
    mine.theirs.edit(there[3], "changed", at_s=BEGIN_S + 5000)
    assert first + [each.id for each in told] == [*(each.id for each in there), there[3].id]


@pytest.mark.parametrize("every_s", [0.0, 0.01, 1.0])
def test_many_comments_of_one_second_are_all_told_once(github: GitHub, every_s: float) -> None:
    mine = ours(github)
    there = comments(mine, 230, every_s=every_s)
    told = [each.id for each in changes.comments(mine.repository, since_s=BEGIN_S)]
    assert told == [each.id for each in there]


def test_who_edited_a_comment_is_told(github: GitHub) -> None:
    mine = ours(github)
    said, found = the_comment(mine)
    assert changes.last_edit(mine.repository, found) is None
    mine.theirs.edit(said, "/train", at_s=BEGIN_S + 7, by="mallory")
    assert changes.last_edit(mine.repository, found) == changes.Edit(by="mallory", at_s=BEGIN_S + 7)


def test_the_moment_of_other_words_is_not_that_of_a_comment(github: GitHub) -> None:
    mine = ours(github)
    said, found = the_comment(mine, "/train\r\nplease")
    assert changes.last_edit(mine.repository, found) is None
    mine.theirs.edit(said, "/train lr=2", at_s=BEGIN_S + 7)
    with pytest.raises(GitHubDown, match="is being edited"):
        changes.last_edit(mine.repository, found)


def test_a_comment_that_is_gone_is_absent(github: GitHub) -> None:
    mine = ours(github)
    said, found = the_comment(mine)
    mine.theirs.delete_comment(said)
    with pytest.raises(GitHubAbsent, match="Could not resolve"):
        changes.last_edit(mine.repository, found)


@pytest.mark.parametrize(
    "trouble",
    [
        {"type": "RATE_LIMITED", "message": "API rate limit exceeded"},
        {"message": "Something went wrong while executing your query"},
        {"type": None, "message": "timedout"},
    ],
    ids=str,
)
def test_what_graphql_does_not_tell_now_is_to_be_asked_again(github: GitHub, trouble: dict[str, Any]) -> None:
    mine = ours(github)
    _, found = the_comment(mine)
    fault = github.fault(path="/graphql$", errors=(trouble,))
    with pytest.raises(GitHubDown, match=trouble["message"]):
        changes.last_edit(mine.repository, found)
    assert fault.hits == 1
    assert changes.last_edit(mine.repository, found) is None


def test_what_a_token_may_not_ask_graphql_is_told_with_the_permission(github: GitHub) -> None:
    mine = ours(github)
    _, found = the_comment(mine)
    refused = {"type": "FORBIDDEN", "message": "Resource not accessible by integration"}
    github.fault(path="/graphql$", errors=(refused,))
    with pytest.raises(GitHubDenied, match="not accessible") as caught:
        changes.last_edit(mine.repository, found)
    assert caught.value.permission == "pull-requests: write"
    assert "pull-requests: write" in caught.value.tip


def test_a_limit_of_graphql_does_not_make_us_somebody_else(github: GitHub) -> None:
    mine = ours(github)
    limit = {"type": "RATE_LIMITED", "message": "API rate limit exceeded"}
    github.fault(path="/graphql$", errors=(limit,))
    with pytest.raises(GitHubDown, match="limit"):
        people.our_login(mine.repository)
    assert people.our_login(mine.repository) == "github-actions[bot]"
