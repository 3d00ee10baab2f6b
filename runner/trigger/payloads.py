"""The bytes of a webhook's payload -> what is used of it, checked; all other fields are let be.

https://docs.github.com/en/webhooks/webhook-events-and-payloads
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from pydantic import AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field

from runner.quantities import format_value

Sha = Annotated[str, Field(pattern=r"^[0-9a-f]{40}$")]


class Payload(BaseModel):
    """A part of a payload."""

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)


class User(Payload):
    """An account: a person's, or an app's, of type Bot."""

    login: Annotated[str, Field(min_length=1)]
    type: str = "User"


class Pusher(Payload):
    """Who pushed, by git's word; a deploy key has no login."""

    name: str


class Commit(Payload):
    """The newest commit of a push."""

    id: Sha
    message: str


class PushPayload(Payload):
    """`push`."""

    ref: str
    before: Sha
    after: Sha
    deleted: bool
    head_commit: Commit | None = None
    pusher: Pusher
    sender: User | None = None


class Issue(Payload):
    """What was commented on: a pull request where `pull_request` is there."""

    number: int
    pull_request: Mapping[str, object] | None = None


class Written(Payload):
    """A comment; its user is None where the account is gone."""

    id: int
    html_url: str
    user: User | None
    body: str | None = None
    created_at: AwareDatetime
    updated_at: AwareDatetime


class CommentPayload(Payload):
    """`issue_comment`."""

    action: str
    issue: Issue
    comment: Written
    sender: User


def _text(value: object) -> str:
    """An input as `${{ inputs.NAME }}` of a workflow shows it: true, 0.5, and nothing for null."""
    if value is None or isinstance(value, str | int | float):
        return "" if value is None else format_value(value)
    raise ValueError("is neither text nor a number, true or false")


class DispatchPayload(Payload):
    """`workflow_dispatch`."""

    inputs: Mapping[str, Annotated[str, BeforeValidator(_text)]] | None = None
    sender: User


class SchedulePayload(Payload):
    """`schedule`."""

    schedule: Annotated[str, Field(min_length=1)]


class CheckRun(Payload):
    """A check run; `external_id` is what its maker called it."""

    id: int
    external_id: str | None = None


class Requested(Payload):
    """The button that was pressed."""

    identifier: str = ""


class CheckPayload(Payload):
    """`check_run`."""

    action: str
    check_run: CheckRun
    requested_action: Requested | None = None
    sender: User

    @property
    def button(self) -> str:
        """The identifier of the button, empty where none was pressed."""
        return self.requested_action.identifier if self.requested_action else ""
