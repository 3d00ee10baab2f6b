"""The event that started a workflow -> an Event with what counts of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeVar

from runner.errors import UsageError

if TYPE_CHECKING:
    from runner.trigger.payloads import CheckPayload, Payload


@dataclass(frozen=True, kw_only=True)
class Push:
    """Commits pushed to a branch, or a tag. `before` is None for a new branch; one of `branch` and `tag` is set.

    `commit` is the commit that a tag stands for, also where the tag is annotated; of what was deleted it is 40 zeros.
    `before` may be out of reach after a forced push. `message` is that of the newest commit, empty where there is
    none.
    """

    by: str
    commit: str
    before: str | None
    branch: str | None
    tag: str | None
    message: str
    deleted: bool


@dataclass(frozen=True, kw_only=True)
class Comment:
    """A comment, written (or, when `edited`, rewritten) at `at_s`; `pull` is None for one on an issue.

    `at_s` is in unix seconds, whole ones, as GitHub gives it.
    """

    by: str
    by_bot: bool
    id: int
    body: str
    pull: int | None
    at_s: float
    edited: bool
    url: str


@dataclass(frozen=True, kw_only=True)
class Dispatch:
    """A button of the Actions page, or an API call, with the inputs as text."""

    by: str
    commit: str
    branch: str | None
    tag: str | None
    inputs: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """The clock; `cron` is the line that came due, its fields one space apart."""

    cron: str
    commit: str
    branch: str


@dataclass(frozen=True, kw_only=True)
class Button:
    """A button of a check run, or its "re-run"; `run_id` is the check's external id, ours."""

    by: str
    action: Literal["cancel", "rerun"]
    run_id: str
    check: int


Event = Push | Comment | Dispatch | Schedule | Button


def read(environ: Mapping[str, str]) -> Event | None:
    """The event that GITHUB_EVENT_NAME, GITHUB_EVENT_PATH, GITHUB_SHA and GITHUB_REF tell of; None for one of no use.

    Of no use are: pull_request, merge_group, check_suite and all others that are not a dataclass above; a comment that
    was deleted, or edited by somebody else than its author, since it is then the word of neither; a check run of
    others, and a button that is not ours. Pure but for reading the file. Raises UsageError where a variable is missing
    or the payload is not what GitHub documents (https://docs.github.com/en/webhooks/webhook-events-and-payloads).
    """
    reader = _READERS.get(_variable(environ, "GITHUB_EVENT_NAME"))
    return reader(environ) if reader else None


def _variable(environ: Mapping[str, str], name: str) -> str:
    value = environ.get(name, "")
    if not value:
        raise UsageError(f"{name} is not set", tip="run this in a job of GitHub Actions, which sets it")
    return value


P = TypeVar("P", bound="Payload")


def _payload(environ: Mapping[str, str], model: type[P]) -> P:
    from pydantic import ValidationError

    path = _variable(environ, "GITHUB_EVENT_PATH")
    try:
        return model.model_validate_json(Path(path).read_bytes())
    except OSError as error:
        raise UsageError(f"{path} (GITHUB_EVENT_PATH) cannot be read: {error.strerror}") from error
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        key = ".".join(str(part) for part in first["loc"])
        message = ": ".join(part for part in (path, key, first["msg"]) if part)
        name = environ["GITHUB_EVENT_NAME"]
        raise UsageError(
            message, tip=f"GITHUB_EVENT_NAME is {name}: the file is to hold such an event"
        ) from error


def _ref(ref: str) -> tuple[str | None, str | None]:
    """The branch and the tag of `refs/…`; both None for anything else."""
    branch, tag = ref.removeprefix("refs/heads/"), ref.removeprefix("refs/tags/")
    return (branch if branch != ref else None), (tag if tag != ref else None)


def _push(environ: Mapping[str, str]) -> Push | None:
    from runner.trigger.payloads import PushPayload

    payload = _payload(environ, PushPayload)
    branch, tag = _ref(payload.ref)
    if branch is None and tag is None:
        return None
    head = payload.head_commit
    # Of an annotated tag `after` is the tag object; `head_commit` is the commit of any tag.
    # https://github.blog/changelog/2021-10-01-the-push-webhook-payload-provides-a-consistent-head_commit-on-tag-creation/
    commit = head.id if head and tag is not None else payload.after
    return Push(
        by=payload.sender.login if payload.sender else payload.pusher.name,
        commit=commit,
        before=payload.before if payload.before.strip("0") else None,
        branch=branch,
        tag=tag,
        message=head.message if head else "",
        deleted=payload.deleted,
    )


def _comment(environ: Mapping[str, str]) -> Comment | None:
    from runner.trigger.payloads import CommentPayload

    payload = _payload(environ, CommentPayload)
    comment, edited = payload.comment, payload.action == "edited"
    author = comment.user
    if payload.action not in {"created", "edited"} or author is None or author.login != payload.sender.login:
        return None
    moment = comment.updated_at if edited else comment.created_at
    return Comment(
        by=author.login,
        by_bot=author.type == "Bot",
        id=comment.id,
        body=comment.body or "",
        pull=payload.issue.number if payload.issue.pull_request is not None else None,
        at_s=moment.timestamp(),
        edited=edited,
        url=comment.html_url,
    )


def _dispatch(environ: Mapping[str, str]) -> Dispatch:
    from runner.trigger.payloads import DispatchPayload

    payload = _payload(environ, DispatchPayload)
    branch, tag = _ref(_variable(environ, "GITHUB_REF"))
    return Dispatch(
        by=payload.sender.login,
        commit=_variable(environ, "GITHUB_SHA"),
        branch=branch,
        tag=tag,
        inputs=dict(payload.inputs or {}),
    )


def _schedule(environ: Mapping[str, str]) -> Schedule:
    from runner.trigger.payloads import SchedulePayload

    ref = _variable(environ, "GITHUB_REF")
    branch, _ = _ref(ref)
    if branch is None:
        raise UsageError(f"GITHUB_REF is {ref}, and a schedule comes due on a branch")
    cron = " ".join(_payload(environ, SchedulePayload).schedule.split())
    return Schedule(cron=cron, commit=_variable(environ, "GITHUB_SHA"), branch=branch)


def _button(environ: Mapping[str, str]) -> Button | None:
    from runner.trigger.payloads import CheckPayload

    payload = _payload(environ, CheckPayload)
    action, run_id = _pressed(payload), payload.check_run.external_id
    if action is None or not run_id:
        return None
    return Button(by=payload.sender.login, action=action, run_id=run_id, check=payload.check_run.id)


def _pressed(payload: CheckPayload) -> Literal["cancel", "rerun"] | None:
    if payload.action == "rerequested" or (payload.action, payload.button) == ("requested_action", "rerun"):
        return "rerun"
    return "cancel" if (payload.action, payload.button) == ("requested_action", "cancel") else None


_READERS: Mapping[str, Callable[[Mapping[str, str]], Event | None]] = {
    "push": _push,
    "issue_comment": _comment,
    "workflow_dispatch": _dispatch,
    "schedule": _schedule,
    "check_run": _button,
}
