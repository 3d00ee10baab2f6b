"""Pull requests -> their heads, at a moment too; commits -> their pull requests."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import msgspec

from runner.errors import GitHubAbsent, GitHubDenied
from runner.github.client import part
from runner.github.permissions import ACTIVITY, CONTENTS, PULLS
from runner.github.refusals import Call

if TYPE_CHECKING:
    from runner.github.client import Repository

_NOBODY = "ghost"  # whom GitHub shows for an account that is gone
_RECORDS = 1000


@dataclass(frozen=True, kw_only=True)
class Pull:
    """A pull request; `head_repository` is None where the fork is gone, `by` is its author's login."""

    number: int
    head: str
    head_branch: str
    head_repository: str | None
    base_branch: str
    fork: bool
    open: bool
    merged: bool
    by: str


class _User(msgspec.Struct):
    login: str


class _Repo(msgspec.Struct):
    full_name: str


class _End(msgspec.Struct):
    ref: str
    sha: str
    repo: _Repo | None = None


class _Pull(msgspec.Struct):
    number: int
    state: str
    head: _End
    base: _End
    user: _User | None = None
    merged: bool = False


class _Commit(msgspec.Struct):
    sha: str


class _Listed(msgspec.Struct):
    number: int
    state: str


class _Branch(msgspec.Struct):
    object: _Commit


class _Push(msgspec.Struct):
    before: str
    after: str
    timestamp: datetime
    activity_type: str


def pull(repository: Repository, number: int) -> Pull:
    """Returns a pull request as it is now; raises GitHubAbsent where there is none of that number."""
    call = Call(doing=f"show the pull request {number}", feature=PULLS)
    found = repository.get(call, f"pulls/{number}", _Pull)
    head_repository = found.head.repo.full_name if found.head.repo else None
    base_repository = found.base.repo.full_name if found.base.repo else repository.name
    return Pull(
        number=found.number,
        head=found.head.sha,
        head_branch=found.head.ref,
        head_repository=head_repository,
        base_branch=found.base.ref,
        fork=head_repository is None or head_repository.lower() != base_repository.lower(),
        open=found.state == "open",
        merged=found.merged,
        by=found.user.login if found.user else _NOBODY,
    )


def head_at(repository: Repository, pull: Pull, *, at_s: float) -> str | None:
    """Returns the commit that the pull request's branch was at, at a moment, by GitHub's own record of pushes.

    None where that cannot be told: of a fork, on servers without such a record, of a branch that was not there,
    and where a push carries the very second of the moment, since nobody knows which came first.
    https://docs.github.com/en/rest/repos/repos#list-repository-activities
    """
    if pull.fork:
        return None
    call = Call(doing=f"tell the pushes to {pull.head_branch}", feature=ACTIVITY)
    pushes = repository.pages(call, "activity", _Push, per_page=100, ref=f"refs/heads/{pull.head_branch}")
    try:
        return _at(islice(pushes, _RECORDS), at_s)
    except (GitHubAbsent, GitHubDenied):
        return None


def _at(pushes: Any, at_s: float) -> str | None:
    """The newest push comes first. One whose second is over when the moment begins was before it."""
    for push in pushes:
        began_s = int(push.timestamp.timestamp())
        if began_s > at_s:
            continue
        if began_s + 1 > at_s or push.activity_type == "branch_deletion":
            return None
        return str(push.after)
    return None


def head_of(repository: Repository, branch: str) -> str | None:
    """Returns the commit that a branch of the repository is at; None where there is no such branch."""
    call = Call(doing=f"show the branch {branch}", feature=CONTENTS)
    found = repository.find(call, f"git/ref/heads/{quote(branch)}", _Branch)
    return found.object.sha if found else None


def commits(repository: Repository, number: int) -> tuple[str, ...]:
    """Returns the commits of a pull request, oldest first; GitHub lists 250 at most."""
    call = Call(doing=f"list the commits of the pull request {number}", feature=PULLS)
    return tuple(
        each.sha for each in repository.pages(call, f"pulls/{number}/commits", _Commit, per_page=100)
    )


def pulls_of(repository: Repository, commit: str) -> tuple[int, ...]:
    """Returns the numbers of the open pull requests that hold a commit, lowest first."""
    call = Call(doing=f"list the pull requests of {commit[:12]}", feature=PULLS)
    found = repository.pages(call, f"commits/{part(commit)}/pulls", _Listed, per_page=100)
    return tuple(sorted(each.number for each in found if each.state == "open"))
