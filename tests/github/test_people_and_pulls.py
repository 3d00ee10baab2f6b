"""What people may, which commit a pull request was at, and files without a checkout."""

from __future__ import annotations

import pytest

from runner.errors import GitHubError
from runner.github import contents, people, pulls
from runner.github.pulls import Pull
from tests.github.ours import Ours, ours
from tests.services.github import GitHub

NOON_S = 1_700_000_000.0


@pytest.mark.parametrize("role", ["admin", "maintain", "write", "triage", "read", "none"])
def test_a_role_is_what_github_says_at_that_moment(github: GitHub, role: str) -> None:
    mine = ours(github)
    mine.theirs.grant("bo", role)  # type: ignore[arg-type]  # each is a role
    assert people.role(mine.repository, "bo") == role


def test_a_custom_role_counts_as_the_one_it_stands_on(github: GitHub) -> None:
    mine = ours(github)
    mine.theirs.grant("bo", "write", role_name="ml-engineer")
    assert people.role(mine.repository, "bo") == "write"
    mine.theirs.grant("bo", "read", role_name="admin")
    assert people.role(mine.repository, "bo") == "read"


def test_one_whom_github_does_not_know_may_nothing(github: GitHub) -> None:
    mine = ours(github)
    assert people.role(mine.repository, "nobody") == "none"
    for login in ("", "..", "../../user", "a/b", "a?b", "-"):
        assert people.role(mine.repository, login) == "none"
    assert mine.repository.calls == 1


def test_a_pull_request_of_a_branch(github: GitHub) -> None:
    mine = ours(github)
    assert pulls.pull(mine.repository, mine.pull) == Pull(
        number=mine.pull,
        head=mine.commit,
        head_branch="lr",
        head_repository="lab/mnist",
        base_branch="main",
        fork=False,
        open=True,
        merged=False,
        by="ann",
    )
    mine.theirs.merge(mine.pull)
    merged = pulls.pull(mine.repository, mine.pull)
    assert (merged.open, merged.merged) == (False, True)


def test_a_pull_request_from_a_fork(github: GitHub) -> None:
    mine = ours(github)
    fork = mine.theirs.fork("eve")
    fork.push("main", {"a.py": "2\n"})
    found = pulls.pull(mine.repository, mine.theirs.pull("main", of=fork).number)
    assert (found.fork, found.head_repository, found.by) == (True, "eve/mnist", "eve")
    assert pulls.head_at(mine.repository, found, at_s=github.world.now_s + 60) is None


def test_commits_and_the_pull_requests_of_one(github: GitHub) -> None:
    mine = ours(github)
    more = [mine.theirs.push("lr", {"a.py": f"{n}\n"}) for n in range(2, 120)]
    assert pulls.commits(mine.repository, mine.pull) == (mine.commit, *more)
    assert pulls.pulls_of(mine.repository, more[-1]) == (mine.pull,)
    mine.theirs.close(mine.pull)
    assert pulls.pulls_of(mine.repository, more[-1]) == ()


def test_the_head_of_a_branch(github: GitHub) -> None:
    mine = ours(github)
    assert pulls.head_of(mine.repository, "lr") == mine.commit
    assert pulls.head_of(mine.repository, "l") is None
    mine.theirs.push("fix/one#two", {"b.py": ""})
    assert pulls.head_of(mine.repository, "fix/one#two") == mine.theirs.head("fix/one#two")


@pytest.fixture
def pushed(github: GitHub) -> tuple[Ours, Pull, list[str]]:
    """A branch that was pushed to at noon and one, two and three minutes later."""
    mine = ours(github)
    commits = [mine.theirs.push("slow", {"b.py": f"{n}\n"}, at_s=NOON_S + 60 * n, by="ann") for n in range(4)]
    number = mine.theirs.pull("slow").number
    return mine, pulls.pull(mine.repository, number), commits


@pytest.mark.parametrize(
    ("at_s", "expected"), [(1, 0), (59, 0), (61, 1), (119.5, 1), (150, 2), (181, 3), (100_000, 3)]
)
def test_the_head_at_a_moment_is_what_was_pushed_before_it(
    pushed: tuple[Ours, Pull, list[str]], at_s: float, expected: int
) -> None:
    mine, pull, commits = pushed
    assert pulls.head_at(mine.repository, pull, at_s=NOON_S + at_s) == commits[expected]


@pytest.mark.parametrize("at_s", [-1, 0, 60, 60.9, 180])
def test_a_moment_before_all_pushes_or_in_the_second_of_one_tells_nothing(
    pushed: tuple[Ours, Pull, list[str]], at_s: float
) -> None:
    mine, pull, _ = pushed
    assert pulls.head_at(mine.repository, pull, at_s=NOON_S + at_s) is None


def test_the_head_at_a_moment_after_a_force_push(pushed: tuple[Ours, Pull, list[str]]) -> None:
    mine, pull, commits = pushed
    mine.theirs.move("slow", commits[0], at_s=NOON_S + 300)
    assert pulls.head_at(mine.repository, pull, at_s=NOON_S + 299) == commits[3]
    assert pulls.head_at(mine.repository, pull, at_s=NOON_S + 400) == commits[0]
    mine.theirs.delete_branch("slow", at_s=NOON_S + 500)
    assert pulls.head_at(mine.repository, pull, at_s=NOON_S + 501) is None


def test_many_pushes_are_read_page_by_page(pushed: tuple[Ours, Pull, list[str]]) -> None:
    mine, pull, commits = pushed
    for n in range(130):
        mine.theirs.move("slow", commits[n % 2], at_s=NOON_S + 1000 + n)
    assert pulls.head_at(mine.repository, pull, at_s=NOON_S + 119) == commits[1]


def test_a_server_without_the_record_of_pushes_tells_nothing(pushed: tuple[Ours, Pull, list[str]]) -> None:
    mine, pull, _ = pushed
    fault = mine.github.fault(status=404, path="/activity")
    assert pulls.head_at(mine.repository, pull, at_s=NOON_S + 119) is None
    assert fault.hits == 1


def test_a_file_is_read_on_a_branch_a_tag_and_a_commit(github: GitHub) -> None:
    mine = ours(github)
    mine.theirs.push("lr", {"train.yml": "name: größer\n", "sub dir/ü.yml": "x"})
    mine.theirs.tag("v1", mine.commit)
    assert contents.text(mine.repository, "train.yml", ref="lr") == "name: größer\n"
    assert contents.text(mine.repository, "train.yml", ref="v1") == "name: mnist\n"
    assert contents.text(mine.repository, "train.yml", ref=mine.commit) == "name: mnist\n"
    assert contents.text(mine.repository, "sub dir/ü.yml", ref="lr") == "x"
    assert contents.default_branch(mine.repository) == "main"


def test_what_is_no_file_is_none(github: GitHub) -> None:
    mine = ours(github)
    mine.theirs.push("lr", {"folder/a.yml": "x"})
    assert contents.text(mine.repository, "folder", ref="lr") is None
    assert contents.text(mine.repository, "absent.yml", ref="lr") is None
    assert contents.text(mine.repository, "train.yml", ref="no-such-branch") is None


def test_a_file_that_is_no_text_is_refused(github: GitHub) -> None:
    mine = ours(github)
    mine.theirs.push("lr", {"train.yml": b"\xff\xfe\x00"})
    with pytest.raises(GitHubError, match="no text in UTF-8"):
        contents.text(mine.repository, "train.yml", ref="lr")
