"""A repository -> its branches and tags as they are now, the comments since a moment, and who wrote them so."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import TYPE_CHECKING

import msgspec

from runner.errors import GitHubAbsent, GitHubDenied, GitHubDown
from runner.github.client import part
from runner.github.permissions import ACTIVITY, COMMENTS, CONTENTS, TAGS
from runner.github.refusals import Call, Trouble, refused
from runner.github.texts import moment, same_text

if TYPE_CHECKING:
    from runner.github.client import Repository

_RECORDS = 1000


@dataclass(frozen=True, kw_only=True)
class Ref:
    """A branch or tag by its whole name; `sha` is its commit, or of an annotated tag that of the tag itself."""

    name: str
    sha: str
    annotated: bool


@dataclass(frozen=True, kw_only=True)
class Written:
    """A comment as it is now, on a pull request or (`pull` None) an issue; `by` is empty where the account is gone.

    `node` is its name in GraphQL. Times are in unix seconds, whole ones.
    """

    id: int
    node: str
    by: str
    by_bot: bool
    body: str
    pull: int | None
    created_at_s: float
    updated_at_s: float
    url: str


@dataclass(frozen=True, kw_only=True)
class Edit:
    """The last edit of a comment: whose, empty where GitHub does not tell, and when."""

    by: str
    at_s: float


class _Object(msgspec.Struct):
    sha: str
    type: str


class _Ref(msgspec.Struct):
    ref: str
    object: _Object


class _User(msgspec.Struct):
    login: str
    type: str = "User"


class _Comment(msgspec.Struct):
    id: int
    node_id: str
    html_url: str
    issue_url: str
    created_at: datetime
    updated_at: datetime
    body: str | None = None
    user: _User | None = None


class _Commit(msgspec.Struct):
    message: str


class _Tag(msgspec.Struct):
    object: _Object


class _Push(msgspec.Struct):
    ref: str
    before: str
    after: str
    timestamp: datetime
    actor: _User | None = None


class _Edited(msgspec.Struct, rename="camel"):
    body: str
    last_edited_at: datetime | None = None
    editor: _User | None = None


class _Node(msgspec.Struct):
    node: _Edited | None = None


class _Answer(msgspec.Struct):
    data: _Node | None = None
    errors: tuple[Trouble, ...] = ()


def refs(repository: Repository) -> tuple[Ref, ...]:
    """Returns all branches and tags, by name; what did not change since the last time costs nothing of the limit."""
    found = []
    for kind, feature in (("heads", CONTENTS), ("tags", TAGS)):
        call = Call(doing=f"list its {kind}", feature=feature)
        found += [
            Ref(name=each.ref, sha=each.object.sha, annotated=each.object.type == "tag")
            for each in repository.pages(call, f"git/matching-refs/{kind}", _Ref)
            if each.ref.startswith(f"refs/{kind}/")
        ]
    return tuple(sorted(found, key=lambda ref: ref.name))


def commit_of(repository: Repository, ref: Ref) -> str:
    """Returns the commit that a ref stands for; of an annotated tag that is one request, answered from the cache."""
    sha, kind = ref.sha, "tag" if ref.annotated else "commit"
    while kind == "tag":
        call = Call(doing=f"show {ref.name}", feature=TAGS)
        found = repository.get(call, f"git/tags/{part(sha)}", _Tag).object
        sha, kind = found.sha, found.type
    return sha


def message_of(repository: Repository, commit: str) -> str:
    """Returns what a commit says."""
    call = Call(doing=f"show the commit {commit[:12]}", feature=CONTENTS)
    return repository.get(call, f"git/commits/{part(commit)}", _Commit).message


def pusher_of(repository: Repository, branch: str, commit: str) -> str:
    """Returns who moved a branch to a commit, by GitHub's own record of pushes; empty where it has none of it."""
    call = Call(doing=f"tell the pushes to {branch}", feature=ACTIVITY)
    pushes = repository.pages(call, "activity", _Push, per_page=100, ref=f"refs/heads/{branch}")
    try:
        found = next((each for each in islice(pushes, _RECORDS) if each.after == commit), None)
    except (GitHubAbsent, GitHubDenied):
        return ""
    return found.actor.login if found is not None and found.actor is not None else ""


def heads_at(repository: Repository, now: tuple[Ref, ...], *, at_s: float) -> dict[str, str]:
    """Returns all refs as they were at a moment, as far as GitHub's record of pushes tells; others as they are now.

    A branch that was not there yet is left out; of tags there is no record.
    """
    then = {ref.name: ref.sha for ref in now}
    call = Call(doing="tell its pushes", feature=ACTIVITY)
    for push in islice(repository.pages(call, "activity", _Push, per_page=100), _RECORDS):
        if push.timestamp.timestamp() < at_s:
            break
        if push.before.strip("0"):
            then[push.ref] = push.before
        else:
            then.pop(push.ref, None)
    return then


def comments(repository: Repository, *, since_s: float) -> Iterator[Written]:
    """Yields the comments on issues and pull requests that were written or changed since then, oldest change first.

    https://docs.github.com/en/rest/issues/comments#list-issue-comments-for-a-repository
    """
    for each in _changed(repository, since_s=since_s):
        number = each.issue_url.rpartition("/")[2]
        is_pull = f"/pull/{number}#" in each.html_url and number.isdecimal()
        yield Written(
            id=each.id,
            node=each.node_id,
            by=each.user.login if each.user else "",
            by_bot=each.user is not None and each.user.type == "Bot",
            body=each.body or "",
            pull=int(number) if is_pull else None,
            created_at_s=each.created_at.timestamp(),
            updated_at_s=each.updated_at.timestamp(),
            url=each.html_url,
        )


def _changed(repository: Repository, *, since_s: float) -> Iterator[_Comment]:
    """Each page begins anew where the last one ended: one that is edited or gone moves those behind it forward."""
    call = Call(doing="list its comments", feature=COMMENTS)
    told: set[tuple[int, datetime]] = set()
    begin_s, number = int(since_s), 1
    while True:
        page, following = repository.page(
            call,
            "issues/comments",
            _Comment,
            sort="updated",
            direction="asc",
            per_page=100,
            since=moment(begin_s),
            page=number,
        )
        for each in page:
            if (each.id, each.updated_at) not in told:
                told.add((each.id, each.updated_at))
                yield each
        if following is None:
            return
        # A second less, since nobody says whether a moment itself is since then.
        next_s = int(page[-1].updated_at.timestamp()) - 1 if page else begin_s
        begin_s, number = (next_s, 1) if next_s > begin_s else (begin_s, number + 1)


def last_edit(repository: Repository, comment: Written) -> Edit | None:
    """Returns who edited a comment last, None where nobody did. The REST API does not tell; GraphQL does.

    Raises GitHubDown where it does not say now what it said in `comment`: the moment would be that of other words.
    https://docs.github.com/en/graphql/reference/objects#issuecomment
    """
    call = Call(doing="tell who edited a comment", feature=COMMENTS)
    query = "query($id:ID!){node(id:$id){... on IssueComment{body lastEditedAt editor{login}}}}"
    asked = {"query": query, "variables": {"id": comment.node}}
    answer = repository.say(call, repository.line.graphql_url, asked, _Answer)
    if answer.errors:
        raise refused(call, answer.errors)
    found = answer.data.node if answer.data else None
    if found is None:
        raise GitHubAbsent("GitHub does not tell who edited a comment: it is gone")
    if not same_text(found.body, comment.body):
        raise GitHubDown(f"{comment.url} is being edited", tip="try again later")
    if found.last_edited_at is None:
        return None
    return Edit(by=found.editor.login if found.editor else "", at_s=found.last_edited_at.timestamp())


def branch_of(ref: str) -> str | None:
    """Returns the branch of `refs/heads/…`; None for another ref."""
    return ref.removeprefix("refs/heads/") if ref.startswith("refs/heads/") else None


def tag_of(ref: str) -> str | None:
    """Returns the tag of `refs/tags/…`; None for another ref."""
    return ref.removeprefix("refs/tags/") if ref.startswith("refs/tags/") else None
