"""The event that started a workflow -> an Event with what counts of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class Push:
    """Commits pushed to a branch, or a tag. `before` is None for a new branch; one of `branch` and `tag` is set."""

    by: str
    commit: str
    before: str | None
    branch: str | None
    tag: str | None
    message: str
    deleted: bool


@dataclass(frozen=True, kw_only=True)
class Comment:
    """A comment, written (or, when `edited`, rewritten) at `at_s`; `pull` is None for one on an issue."""

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
    """The clock; `cron` is the line that came due."""

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

    Raises UsageError where they are missing or the payload is not what GitHub documents.
    """
    raise NotImplementedError
