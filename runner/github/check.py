"""Check runs: one for each run, created, updated and closed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Conclusion = Literal["success", "failure", "neutral", "cancelled", "timed_out", "action_required", "skipped"]


@dataclass(frozen=True, kw_only=True)
class Annotation:
    """A fault on a line of a file of the commit; lines from 1, columns from 1 or None."""

    path: str
    line: int
    column: int | None
    level: Literal["failure", "warning", "notice"]
    title: str
    message: str


@dataclass(frozen=True, kw_only=True)
class Action:
    """A button of the check: label at most 20 characters, description 40, identifier 20."""

    label: str
    description: str
    identifier: str


@dataclass(frozen=True, kw_only=True)
class Check:
    """What a check run is to say. `conclusion` None: it goes on; texts are Markdown; times in unix seconds."""

    name: str
    commit: str
    external_id: str
    details_url: str
    status: Literal["queued", "in_progress", "completed"]
    conclusion: Conclusion | None
    started_at_s: float | None
    completed_at_s: float | None
    title: str
    summary: str
    text: str
    annotations: tuple[Annotation, ...] = ()
    actions: tuple[Action, ...] = ()
