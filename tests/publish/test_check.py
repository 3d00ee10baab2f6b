"""What would keep a release from being published is known before a GPU is used for it."""

from __future__ import annotations

import pytest

from runner.errors import GitHubDown
from runner.publish import check
from tests.publish.made import Desk, connected


def test_where_nothing_is_in_the_way_nothing_is_said_and_nothing_is_made(desk: Desk) -> None:
    assert check.notes(desk.repository, "digits") == ()
    assert desk.repo.tags == {}
    assert desk.repo.releases() == []


def test_a_token_that_may_not_write_is_told(desk: Desk) -> None:
    token = desk.github.actions_token(permissions={"contents": "read"})

    assert check.notes(connected(desk.github, token=token), "digits") == (
        "the model will not be released on GitHub: the token lacks `contents: write`",
    )


@pytest.mark.parametrize("pattern", ["refs/tags/*", "~ALL", "refs/tags/digits@v*"])
def test_rules_that_let_nobody_make_the_tag_are_told(desk: Desk, pattern: str) -> None:
    desk.repo.rule(pattern)

    (note,) = check.notes(desk.repository, "digits")
    assert "the rules 'tags' let nobody make digits@v1.0.0" in note


def test_rules_that_do_not_concern_the_tag_are_not_told(desk: Desk) -> None:
    desk.repo.rule("refs/tags/v*")
    desk.repo.rule("~ALL", exclude=("refs/tags/*@v*",))
    desk.repo.rule("~ALL", forbids="deletion")
    desk.repo.rule("~ALL", enforcement="disabled")
    desk.repo.rule("~ALL", bypass="always")

    assert check.notes(desk.repository, "digits") == ()


def test_a_server_that_knows_no_rules_is_no_reason_for_a_note(desk: Desk) -> None:
    desk.github.fault(status=404, times=None, path="/rulesets")

    assert check.notes(desk.repository, "digits") == ()


def test_an_outage_is_an_outage(desk: Desk) -> None:
    desk.github.outage("503")

    with pytest.raises(GitHubDown):
        check.notes(desk.repository, "digits")
