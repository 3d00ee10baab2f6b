"""What GitHub answers instead of doing it -> the error that says so, and what to change."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any

import msgspec

from runner.errors import GitHubAbsent, GitHubDenied, GitHubDown, GitHubError
from runner.github.permissions import Feature, accepted

_WORDS_LIMIT = 300
_DENIED = frozenset({"FORBIDDEN", "INSUFFICIENT_SCOPES"})


@dataclass(frozen=True, kw_only=True)
class Call:
    """What is asked of GitHub: `doing` ends the sentence "GitHub did not …"."""

    doing: str
    feature: Feature


@dataclass(frozen=True, kw_only=True)
class Answer:
    """An answer of GitHub; `headers` with small letters, `content` what its JSON says (None if empty)."""

    status: int
    headers: Mapping[str, str]
    content: Any


class Trouble(msgspec.Struct):
    """What went wrong with a query in GraphQL; `type` is empty for a fault of GitHub's own."""

    type: str | None = None
    message: str = ""


class Unsure(GitHubDown):
    """It is not known whether GitHub did it: the line was cut, or it answered with a fault of its own."""


class Rejected(GitHubError):
    """GitHub cannot do that (409, 422); `taken` where the reason is that there is such a thing already."""

    def __init__(self, message: str, *, tip: str = "", taken: bool = False) -> None:
        super().__init__(message, tip=tip)
        self.taken = taken


def error_of(call: Call, answer: Answer) -> GitHubError:
    """Returns the error for an answer that is none of the good ones."""
    status = answer.status
    if status == HTTPStatus.UNAUTHORIZED:
        return _not_accepted(call, answer)
    if status == HTTPStatus.FORBIDDEN:
        return _denied(call, answer)
    if status in {HTTPStatus.NOT_FOUND, HTTPStatus.GONE}:
        return GitHubAbsent(
            _sentence(call, answer, "there is no such thing"),
            tip="or the token may not see it: look at the repository's name and the token's permissions",
        )
    if status in {HTTPStatus.CONFLICT, HTTPStatus.UNPROCESSABLE_ENTITY}:
        return Rejected(_sentence(call, answer, "it was refused"), taken=_is_taken(answer.content))
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR or status == HTTPStatus.TOO_MANY_REQUESTS:
        return GitHubDown(_sentence(call, answer, "it has a fault"), tip="try again later")
    if status < HTTPStatus.BAD_REQUEST:
        where = answer.headers.get("location", "elsewhere")
        return GitHubError(f"GitHub did not {call.doing}: it moved to {where}", tip="use the new name")
    return GitHubError(_sentence(call, answer, "it was refused"))


def refused(call: Call, errors: Sequence[Trouble]) -> GitHubError:
    """Returns the error for what GraphQL says in a good answer: https://docs.github.com/en/graphql"""
    kinds, said = {each.type for each in errors}, "; ".join(each.message for each in errors)
    sentence = f"GitHub did not {call.doing}: {words(said) or 'it was refused'}"
    if kinds & _DENIED:
        return _lacking(call, sentence, call.feature.permission)
    if kinds == {"NOT_FOUND"}:
        return GitHubAbsent(sentence)
    return GitHubDown(sentence, tip="try again later")


def down(call: Call, reason: str, *, wait_s: float | None = None, now_s: float = 0.0) -> GitHubDown:
    """Returns the error for a call that was given up; `wait_s` is how long GitHub asks to wait, if it does."""
    tip = "see https://www.githubstatus.com, and try again later"
    if wait_s is not None and wait_s > 0:
        until = datetime.fromtimestamp(now_s + wait_s, UTC)
        tip = f"try again after {until:%H:%M:%S} UTC"
    return GitHubDown(f"GitHub did not {call.doing}: {reason}", tip=tip)


def words(content: Any) -> str:
    """Returns what GitHub says in an answer, as one line of at most 300 characters; may be empty."""
    if isinstance(content, Mapping):
        said = str(content.get("message") or content.get("data") or "")
        listed = content.get("errors")
        details = listed if isinstance(listed, list) else []
        said += "".join(f"; {_detail(each)}" for each in details)
    else:
        said = str(content or "")
    said = " ".join(said.split())
    return said if len(said) <= _WORDS_LIMIT else said[: _WORDS_LIMIT - 1] + "…"


def _detail(error: Any) -> str:
    if not isinstance(error, Mapping):
        return str(error)
    if error.get("message"):
        return str(error["message"])
    return " ".join(str(error[key]) for key in ("resource", "field", "code") if error.get(key))


def _sentence(call: Call, answer: Answer, otherwise: str) -> str:
    return f"GitHub did not {call.doing}: {words(answer.content) or otherwise} ({answer.status})"


def _not_accepted(call: Call, answer: Answer) -> GitHubDenied:
    return GitHubDenied(
        _sentence(call, answer, "the token is not accepted"),
        tip="the token is wrong or has ended (that of a job ends with the job, and after 24 hours): use another one",
    )


def _denied(call: Call, answer: Answer) -> GitHubDenied:
    permission = accepted(answer.headers.get("x-accepted-github-permissions", "")) or call.feature.permission
    return _lacking(call, _sentence(call, answer, "the token may not"), permission)


def _lacking(call: Call, sentence: str, permission: str) -> GitHubDenied:
    return GitHubDenied(
        sentence,
        tip=f"add `{permission}` to `permissions:` of the workflow, or to the token or the App; "
        f"without it {call.feature.lost}",
        permission=permission,
    )


def _is_taken(content: Any) -> bool:
    if not isinstance(content, Mapping):
        return False
    listed = content.get("errors")
    codes = (
        [each.get("code") for each in listed if isinstance(each, Mapping)] if isinstance(listed, list) else []
    )
    return "already_exists" in codes or "already exists" in str(content.get("message", "")).lower()
