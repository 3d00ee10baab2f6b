"""Faults of GitHub, limits, cut lines: each call waits as it should, and does its thing once."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from runner.errors import GitHubAbsent, GitHubDenied, GitHubDown, GitHubError
from runner.github import check, contents, people, pulls, releases, tags, thread
from runner.github.client import Repository
from tests.github.ours import Ours, a_check, faults, ours
from tests.services.github import GitHub


@dataclass(frozen=True, kw_only=True)
class Kind:
    """One kind of call; `made` counts what it makes on GitHub, which is one."""

    method: str
    call: Callable[[Ours], Any]
    path: str = ""
    made: Callable[[Ours], int] | None = None


def on_comment(mine: Ours) -> int:
    return mine.theirs.comment(mine.pull, "/train", by="ann").id


KINDS = {
    "role": Kind(method="GET", call=lambda mine: people.role(mine.repository, "ann")),
    "pull": Kind(method="GET", call=lambda mine: pulls.pull(mine.repository, mine.pull)),
    "commits": Kind(method="GET", call=lambda mine: pulls.commits(mine.repository, mine.pull)),
    "text": Kind(method="GET", call=lambda mine: contents.text(mine.repository, "train.yml", ref="main")),
    "releases": Kind(method="GET", call=lambda mine: list(releases.releases(mine.repository))),
    "check": Kind(
        method="POST",
        call=lambda mine: check.create(mine.repository, a_check(mine.commit)),
        made=lambda mine: len(mine.theirs.checks(mine.commit)),
    ),
    "comment": Kind(
        method="POST",
        call=lambda mine: thread.write(mine.repository, mine.pull, "<!-- ours -->\nHello"),
        made=lambda mine: len(mine.theirs.comments(mine.pull)),
    ),
    "reaction": Kind(
        method="POST",
        call=lambda mine: thread.react(mine.repository, on_comment(mine), "eyes"),
        made=lambda mine: len(mine.theirs.comments(mine.pull)[-1].reactions),
    ),
    "tag": Kind(
        method="POST",
        path="/git/refs$",
        call=lambda mine: tags.create_tag(
            mine.repository, "mnist@v1.0.0", commit=mine.commit, message="first"
        ),
        made=lambda mine: len(mine.theirs.tags),
    ),
    "draft": Kind(
        method="POST",
        call=lambda mine: releases.create_draft(mine.repository, "mnist@v1.0.0", name="mnist", body="card"),
        made=lambda mine: len(mine.theirs.releases()),
    ),
}
MAKING = {name: kind for name, kind in KINDS.items() if kind.made}


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_three_502_in_a_row_are_waited_for_longer_and_longer(github: GitHub, kind: Kind) -> None:
    mine = ours(github)
    fault = github.fault(status=502, times=3, method=kind.method, path=kind.path)
    kind.call(mine)
    assert fault.hits == 3
    assert mine.clock.pauses == [1.0, 2.0, 4.0]
    assert kind.made is None or kind.made(mine) == 1


@pytest.mark.parametrize("how", [{"status": 502}, {"reset": True}], ids=["502", "cut"])
@pytest.mark.parametrize("kind", MAKING.values(), ids=MAKING)
def test_what_github_did_before_the_line_was_cut_is_not_done_twice(
    github: GitHub, kind: Kind, how: dict[str, Any]
) -> None:
    mine = ours(github)
    fault = github.fault(method="POST", path=kind.path, times=1, after=True, **how)
    kind.call(mine)
    assert fault.hits == 1
    assert kind.made is not None
    assert kind.made(mine) == 1


@pytest.mark.parametrize("status", [403, 429])
@pytest.mark.parametrize("kind", [KINDS["pull"], KINDS["check"]], ids=["GET", "POST"])
def test_the_secondary_limit_is_waited_for_as_long_as_github_says(
    github: GitHub, kind: Kind, status: int
) -> None:
    mine = ours(github)
    github.fault(status=status, retry_after_s=37, times=2)
    kind.call(mine)
    assert mine.clock.pauses == [37.0, 37.0]
    assert kind.made is None or kind.made(mine) == 1


@pytest.mark.parametrize("kind", [KINDS["pull"], KINDS["check"]], ids=["GET", "POST"])
def test_the_primary_limit_is_waited_for_until_its_reset(github: GitHub, kind: Kind) -> None:
    mine = ours(github)
    github.exhaust(github.token, reset_in_s=600)
    mine.clock.then = lambda: setattr(github.world.tokens[github.token], "used", 0)
    kind.call(mine)
    (pause_s,) = mine.clock.pauses
    assert 595 <= pause_s <= 602
    assert kind.made is None or kind.made(mine) == 1


def test_a_limit_that_lasts_longer_than_the_call_may_is_told_at_once(github: GitHub) -> None:
    mine = ours(github)
    github.exhaust(github.token, reset_in_s=3000)
    with pytest.raises(GitHubDown, match=r"GitHub did not show the pull request 1: its limit") as caught:
        pulls.pull(mine.repository, mine.pull)
    assert mine.clock.pauses == []
    assert caught.value.tip.startswith("try again after ")


def test_one_who_is_impatient_gives_up_soon_and_the_other_view_does_not(github: GitHub) -> None:
    mine = ours(github)
    github.outage("503")
    began_s = mine.clock.monotonic()
    with pytest.raises(GitHubDown, match="answers 503"):
        people.role(mine.repository.impatient(20), "ann")
    assert mine.clock.monotonic() - began_s < 21
    mine.clock.then = lambda: github.outage("503" if len(mine.clock.pauses) < 10 else None)
    assert people.role(mine.repository, "ann") == "write"


@pytest.mark.parametrize("kind", [KINDS["pull"], KINDS["check"]], ids=["GET", "POST"])
def test_an_outage_ends_in_an_error_that_says_so(github: GitHub, kind: Kind) -> None:
    mine = ours(github)
    github.outage("reset")
    with pytest.raises(GitHubDown, match="GitHub did not ") as caught:
        kind.call(mine)
    assert caught.value.tip
    assert 600 < sum(mine.clock.pauses) <= 900


def test_a_server_that_is_not_there_is_named(github: GitHub) -> None:
    mine = ours(github)
    github.close()
    with pytest.raises(GitHubDown, match="Connection refused"):
        people.role(mine.repository, "ann")


def test_a_token_that_is_refused_in_the_middle_ends_all(github: GitHub) -> None:
    mine = ours(github)
    assert people.role(mine.repository, "ann") == "write"
    github.expire(github.token)
    with pytest.raises(GitHubDenied, match="Bad credentials") as caught:
        people.role(mine.repository, "ann")
    assert caught.value.permission == ""
    assert mine.clock.pauses == []


def test_a_permission_that_is_missing_is_named_with_what_is_lost(github: GitHub) -> None:
    mine = ours(github)
    github.permit(github.token, {"contents": "read", "pull-requests": "read"})
    with pytest.raises(GitHubDenied) as caught:
        check.create(mine.repository, a_check(mine.commit))
    assert caught.value.permission == "checks: write"
    assert "add `checks: write` to `permissions:` of the workflow" in caught.value.tip
    with pytest.raises(GitHubDenied) as caught:
        thread.write(mine.repository, mine.pull, "Hello")
    assert caught.value.permission == "issues: write or pull-requests: write"
    with pytest.raises(GitHubDenied) as caught:
        tags.create_tag(mine.repository, "mnist@v1.0.0", commit=mine.commit, message="first")
    assert caught.value.permission == "contents: write"
    assert mine.clock.pauses == []


def test_what_is_not_there_is_absent(github: GitHub) -> None:
    mine = ours(github)
    with pytest.raises(GitHubAbsent, match="show the pull request 99: Not Found"):
        pulls.pull(mine.repository, 99)


def test_a_refusal_says_what_github_says(github: GitHub) -> None:
    mine = ours(github)
    with pytest.raises(GitHubError, match=r"GitHub did not .*\(422\)"):
        check.create(mine.repository, a_check("0" * 40))


def test_requests_are_counted_with_those_that_were_repeated(github: GitHub) -> None:
    mine = ours(github)
    assert mine.repository.calls == 0
    github.fault(status=502, times=2)
    people.role(mine.repository, "ann")
    assert mine.repository.calls == mine.repository.impatient().calls == len(github.calls) == 3


def test_many_annotations_that_were_added_before_the_cut_are_not_added_twice(github: GitHub) -> None:
    mine = ours(github)
    github.fault(method="PATCH", status=502, times=1, after=True)
    github.fault(method="PATCH", reset=True, times=1)
    number = check.create(mine.repository, a_check(mine.commit, annotations=faults(120)))
    check.update(mine.repository, number, a_check(mine.commit, annotations=faults(120)))
    (made,) = mine.theirs.checks(mine.commit)
    assert [each["message"] for each in made.annotations] == [f"number {n}" for n in range(120)]


def test_no_log_and_no_error_shows_a_token(github: GitHub, caplog: pytest.LogCaptureFixture) -> None:
    mine = ours(github)
    caplog.set_level(logging.DEBUG)
    github.fault(status=502, times=1)
    people.role(mine.repository, "ann")
    github.expire(github.token)
    with pytest.raises(GitHubDenied) as caught:
        people.role(mine.repository, "ann")
    assert github.token not in caplog.text
    assert github.token not in f"{caught.value} {caught.value.tip} {caught.value!r}"
    assert github.token not in repr(mine)


def test_the_log_has_our_own_words_alone(
    github: GitHub, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    mine = ours(github)
    caplog.set_level(logging.INFO)
    github.fault(status=502, times=1)
    github.fault(status=403, retry_after_s=1, times=1)
    people.role(mine.repository, "ann")
    github.permit(github.token, {})
    with pytest.raises(GitHubDenied):
        thread.write(mine.repository, mine.pull, "Hello")
    assert [record.name for record in caplog.records] == ["runner.github.retries"] * 2
    assert capfd.readouterr().err == ""
    assert logging.getLogger("github").handlers == []


def test_a_view_is_of_the_same_repository(github: GitHub) -> None:
    mine = ours(github)
    view: Repository = mine.repository.impatient()
    assert (view.name, view.api_url) == ("lab/mnist", github.url)


def test_no_log_speaks_of_a_wait_that_is_too_long_to_be_waited(
    github: GitHub, caplog: pytest.LogCaptureFixture
) -> None:
    mine = ours(github)
    caplog.set_level(logging.INFO)
    github.fault(status=403, retry_after_s=1800, times=1)
    with pytest.raises(GitHubDown):
        people.role(mine.repository.impatient(20), "ann")
    assert "trying again" not in caplog.text


def test_nobody_is_asked_while_github_wants_no_requests(github: GitHub) -> None:
    mine = ours(github)
    fault = github.fault(status=403, retry_after_s=100, times=None)
    quick = mine.repository.impatient(20)
    for _ in range(5):
        with pytest.raises(GitHubDown, match="limit of requests is reached"):
            people.role(quick, "ann")
    assert fault.hits == 1
    fault.times = 0
    mine.clock.skip(101)
    assert people.role(quick, "ann") == "write"


def test_a_limit_of_which_nothing_is_said_is_waited_for_for_minutes(github: GitHub) -> None:
    mine = ours(github)
    github.fault(status=403, times=2)
    assert people.role(mine.repository, "ann") == "write"
    assert mine.clock.pauses == [60.0, 120.0]


def test_a_server_that_says_nothing_is_not_waited_for_longer_than_the_patience(github: GitHub) -> None:
    mine = ours(github)
    github.fault(delay_s=3, times=None)
    began_s = time.monotonic()
    with pytest.raises(GitHubDown, match="did not tell the role of ann"):
        people.role(mine.repository.impatient(1), "ann")
    assert time.monotonic() - began_s < 2.5
