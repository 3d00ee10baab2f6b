"""Our comment is found among all others, written once, rewritten, and written anew where somebody deleted it."""

from __future__ import annotations

import pytest

from runner.errors import GitHubAbsent
from runner.github import check, client, people, thread
from tests.github.ours import a_check, connected, ours
from tests.services.github import GitHub

MARKER = "<!-- pushtrain mnist -->"
REACTIONS: tuple[thread.Reaction, ...] = ("eyes", "eyes", "rocket", "confused")
BODY = f"{MARKER}\n## mnist\n"


def test_our_comment_is_found_again_by_another_job(github: GitHub) -> None:
    mine = ours(github)
    assert thread.find(mine.repository, mine.pull, MARKER) is None
    number = thread.write(mine.repository, mine.pull, BODY)
    thread.rewrite(mine.repository, number, BODY + "new")
    another = connected(github, auth=client.Token(value=github.actions_token()))
    assert thread.find(another, mine.pull, MARKER) == number
    (comment,) = mine.theirs.comments(mine.pull)
    assert comment.body == BODY + "new"


def test_a_comment_with_a_copied_marker_is_not_ours(github: GitHub) -> None:
    mine = ours(github)
    mine.theirs.comment(mine.pull, BODY, by="eve")
    assert thread.find(mine.repository, mine.pull, MARKER) is None
    number = thread.write(mine.repository, mine.pull, BODY)
    assert thread.find(mine.repository, mine.pull, MARKER) == number
    mine.theirs.comment(mine.pull, BODY, by="eve")
    assert thread.find(connected(github), mine.pull, MARKER) == number


def test_a_marker_counts_in_the_first_line_alone(github: GitHub) -> None:
    mine = ours(github)
    thread.write(mine.repository, mine.pull, f"You said:\n{BODY}")
    assert thread.find(mine.repository, mine.pull, MARKER) is None


def test_the_oldest_of_two_is_ours_and_long_threads_are_read_to_the_end(github: GitHub) -> None:
    mine = ours(github)
    for n in range(150):
        mine.theirs.comment(mine.pull, f"comment {n}", by="ann")
    first = thread.write(mine.repository, mine.pull, BODY)
    thread.write(mine.repository, mine.pull, BODY)
    assert thread.find(mine.repository, mine.pull, MARKER) == first


def test_a_comment_that_a_person_deleted_is_absent(github: GitHub) -> None:
    mine = ours(github)
    number = thread.write(mine.repository, mine.pull, BODY)
    mine.theirs.delete_comment(mine.theirs.comments(mine.pull)[0])
    with pytest.raises(GitHubAbsent):
        thread.rewrite(mine.repository, number, BODY)
    with pytest.raises(GitHubAbsent):
        thread.react(mine.repository, number, "eyes")
    assert thread.find(mine.repository, mine.pull, MARKER) is None


def test_the_same_answer_may_be_given_twice(github: GitHub) -> None:
    mine = ours(github)
    assert thread.write(mine.repository, mine.pull, "Hello") != thread.write(
        mine.repository, mine.pull, "Hello"
    )
    github.fault(status=502, method="POST", times=1)
    thread.write(mine.repository, mine.pull, "Something else")
    assert [each.body for each in mine.theirs.comments(mine.pull)] == ["Hello", "Hello", "Something else"]


def test_what_a_person_wrote_meanwhile_is_not_taken_for_ours(github: GitHub) -> None:
    mine = ours(github)
    theirs = mine.theirs.comment(mine.pull, "Hello", by="eve")
    github.fault(status=502, method="POST", times=1)
    assert thread.write(mine.repository, mine.pull, "Hello") != theirs.id
    assert len(mine.theirs.comments(mine.pull)) == 2


def test_reactions_are_added_once_each(github: GitHub) -> None:
    mine = ours(github)
    command = mine.theirs.comment(mine.pull, "/train", by="ann")
    for reaction in REACTIONS:
        thread.react(mine.repository, command.id, reaction)
    assert [each.content for each in command.reactions] == ["eyes", "rocket", "confused"]


def test_a_long_comment_is_cut(github: GitHub) -> None:
    mine = ours(github)
    thread.write(mine.repository, mine.pull, BODY + "line\n" * 20_000)
    (comment,) = mine.theirs.comments(mine.pull)
    assert len(comment.body) <= 65_536
    assert comment.body.startswith(BODY)


def test_a_person_with_a_token_of_their_own_finds_their_own_comment(github: GitHub) -> None:
    mine = ours(github, auth=client.Token(value=github.personal_token("ann")))
    number = thread.write(mine.repository, mine.pull, BODY)
    again = connected(github, auth=client.Token(value=github.personal_token("ann")))
    assert thread.find(again, mine.pull, MARKER) == number
    assert thread.find(connected(github), mine.pull, MARKER) is None


def test_an_app_finds_its_own_comment(github: GitHub) -> None:
    app = github.app("trainer", "lab/mnist")
    auth = client.App(id=str(app.id), private_key=app.private_key)
    mine = ours(github, auth=auth)
    number = thread.write(mine.repository, mine.pull, BODY)
    assert thread.find(connected(github, auth=auth), mine.pull, MARKER) == number
    assert thread.find(connected(github), mine.pull, MARKER) is None


def test_who_we_are_is_learnt_from_what_we_wrote(github: GitHub) -> None:
    mine = ours(github)
    check.create(mine.repository, a_check(mine.commit))
    before = mine.repository.calls
    assert people.our_login(mine.repository) == "github-actions[bot]"
    assert mine.repository.calls == before


def test_an_outage_while_we_ask_who_we_are_is_no_answer(github: GitHub) -> None:
    mine = ours(github, auth=client.Token(value=github.personal_token("ann")))
    fault = github.fault(status=502, path="/graphql$", times=2)
    assert people.our_login(mine.repository) == "ann"
    assert fault.hits == 2
    assert people.our_login(mine.repository.impatient()) == "ann"


def test_where_graphql_does_not_tell_us_a_person_is_told_otherwise_and_a_job_knows(github: GitHub) -> None:
    mine = ours(github, auth=client.Token(value=github.personal_token("ann")))
    github.fault(status=404, path="/graphql$", times=None)
    assert people.our_login(mine.repository) == "ann"
    assert people.our_login(connected(github)) == "github-actions[bot]"
