"""Comments of an issue or pull request -> ours found, written, rewritten; commands marked with reactions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import msgspec

from runner.github.people import our_login, remember_login
from runner.github.permissions import COMMENTS, REACTIONS
from runner.github.refusals import Call
from runner.github.texts import fitting, moment, same_text

if TYPE_CHECKING:
    from runner.github.client import Repository

Reaction = Literal["eyes", "rocket", "confused"]

_SKEW_S = 300.0


class _User(msgspec.Struct):
    login: str


class _Comment(msgspec.Struct):
    id: int
    body: str | None = None
    user: _User | None = None

    @property
    def by(self) -> str:
        return self.user.login if self.user else ""


class _Reacted(msgspec.Struct):
    id: int
    user: _User | None = None


def find(repository: Repository, issue: int, marker: str) -> int | None:
    """Returns our own comment with the marker in its first line, the oldest; None where there is none.

    One that somebody else wrote with the same marker is never ours.
    """
    call = Call(doing=f"list the comments of {issue}", feature=COMMENTS)
    for comment in repository.pages(call, f"issues/{issue}/comments", _Comment, per_page=100):
        first = (comment.body or "").partition("\n")[0]
        if marker in first and comment.by == our_login(repository):
            return comment.id
    return None


def write(repository: Repository, issue: int, body: str) -> int:
    """Writes a comment and returns its id. One call writes one comment; a second call writes a second."""
    call = Call(doing=f"take a comment on {issue}", feature=COMMENTS)
    body = fitting(body)
    since = moment(repository.line.patience.clock.time() - _SKEW_S)

    def look() -> _Comment | None:
        """What is there already is the newest one of ours that says the same."""
        newer = repository.pages(call, f"issues/{issue}/comments", _Comment, per_page=100, since=since)
        ours = [each for each in newer if same_text(each.body, body) and each.by == our_login(repository)]
        return ours[-1] if ours else None

    made = repository.create(call, f"issues/{issue}/comments", {"body": body}, _Comment, look=look)
    remember_login(repository, made.by)
    return made.id


def rewrite(repository: Repository, comment_id: int, body: str) -> None:
    """Puts another text into our comment; safe to repeat. Raises GitHubAbsent where somebody deleted it."""
    call = Call(doing="change a comment", feature=COMMENTS)
    repository.change(call, f"issues/comments/{comment_id}", {"body": fitting(body)}, _Comment)


def react(repository: Repository, comment_id: int, reaction: Reaction) -> None:
    """Adds our reaction to a comment; safe to repeat. Raises GitHubAbsent where the comment was deleted."""
    call = Call(doing="take a reaction", feature=REACTIONS)
    path = f"issues/comments/{comment_id}/reactions"
    made = repository.say(call, path, {"content": reaction}, _Reacted)
    remember_login(repository, made.user.login if made.user else "")
