"""Check runs: one for each run, created, updated and closed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from runner.github.client import part
from runner.github.people import remember_login
from runner.github.permissions import CHECKS
from runner.github.refusals import Call
from runner.github.texts import fitting, moment, one_line

if TYPE_CHECKING:
    from runner.github.client import Repository

ANNOTATIONS = 50
"""Annotations of one request: https://docs.github.com/en/rest/checks/runs#update-a-check-run"""

_ACTIONS = 3
_TITLE = 255
_MESSAGE = 60_000

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


class _App(msgspec.Struct):
    slug: str = ""


class _Output(msgspec.Struct):
    annotations_count: int = 0


class _Run(msgspec.Struct):
    id: int
    external_id: str | None = None
    app: _App | None = None
    output: _Output | None = None


def create(repository: Repository, check: Check) -> int:
    """Creates the check run with all its annotations and returns its id.

    One call creates one check run; a second call creates a second, so keep the id, or `find` it.
    """
    call = Call(doing=f"create the check {check.name}", feature=CHECKS)
    body = {"name": one_line(check.name, _TITLE), "head_sha": check.commit, **_body(check)}
    made = repository.create(call, "check-runs", body, _Run, look=lambda: _find(repository, check))
    remember_login(repository, f"{made.app.slug}[bot]" if made.app and made.app.slug else "")
    _annotate(repository, made.id, check, has=ANNOTATIONS)
    return made.id


def find(repository: Repository, check: Check) -> int | None:
    """Returns the newest check run of that name and `external_id` on the commit; None where there is none."""
    found = _find(repository, check)
    return found.id if found else None


def update(repository: Repository, check_id: int, check: Check) -> None:
    """Makes a check run say what `check` says; safe to repeat, also with annotations, which GitHub only ever adds to.

    Those that it has already are taken to be the first of `check.annotations`. Raises GitHubAbsent where the check
    run is gone.
    """
    call = Call(doing=f"update the check {check.name}", feature=CHECKS)
    if not check.annotations:
        repository.change(call, f"check-runs/{check_id}", _body(check), _Run)
        return
    has = _annotated(repository, check_id)
    # First what it is to say, then the annotations: whoever looks in between sees the conclusion.
    repository.change(call, f"check-runs/{check_id}", _body(check, annotations=()), _Run)
    _annotate(repository, check_id, check, has=has)


def _find(repository: Repository, check: Check) -> _Run | None:
    call = Call(doing=f"list the checks of {check.commit[:12]}", feature=CHECKS)
    runs = repository.pages(
        call,
        f"commits/{part(check.commit)}/check-runs",
        _Run,
        key="check_runs",
        check_name=check.name,
        per_page=100,
        filter="all",
    )
    ours = [each for each in runs if each.external_id == check.external_id]
    return max(ours, key=lambda each: each.id, default=None)


def _annotated(repository: Repository, check_id: int) -> int:
    call = Call(doing="show a check", feature=CHECKS)
    output = repository.get(call, f"check-runs/{check_id}", _Run).output
    return output.annotations_count if output else 0


def _annotate(repository: Repository, check_id: int, check: Check, *, has: int) -> None:
    """Adds the annotations after the first `has`, 50 at a time; one that may have been added is looked for first."""
    call = Call(doing=f"annotate the lines of {check.name}", feature=CHECKS)
    for start in range(has, len(check.annotations), ANNOTATIONS):
        batch = check.annotations[start : start + ANNOTATIONS]
        body = {"output": _output(check, batch)}

        def look(end: int = start + len(batch)) -> _Run | None:
            return _Run(id=check_id) if _annotated(repository, check_id) >= end else None

        repository.append(call, f"check-runs/{check_id}", body, _Run, look=look)


def _body(check: Check, *, annotations: tuple[Annotation, ...] | None = None) -> dict[str, Any]:
    first = check.annotations[:ANNOTATIONS] if annotations is None else annotations
    body: dict[str, Any] = {
        "external_id": check.external_id,
        "details_url": check.details_url,
        "status": check.status,
        "started_at": None if check.started_at_s is None else moment(check.started_at_s),
        "conclusion": check.conclusion,
        "completed_at": None if check.completed_at_s is None else moment(check.completed_at_s),
        "output": _output(check, first),
        "actions": list(_actions(check.actions)),
    }
    return {key: value for key, value in body.items() if value not in (None, "")}


def _output(check: Check, annotations: tuple[Annotation, ...]) -> dict[str, Any]:
    output: dict[str, Any] = {
        "title": one_line(check.title, _TITLE) or one_line(check.name, _TITLE),
        "summary": fitting(check.summary),
    }
    if check.text:
        output["text"] = fitting(check.text)
    if annotations:
        output["annotations"] = [_annotation(each) for each in annotations]
    return output


def _annotation(annotation: Annotation) -> dict[str, Any]:
    body: dict[str, Any] = {
        "path": annotation.path,
        "start_line": annotation.line,
        "end_line": annotation.line,
        "annotation_level": annotation.level,
        "message": fitting(annotation.message, _MESSAGE),
    }
    if annotation.title:
        body["title"] = one_line(annotation.title, _TITLE)
    if annotation.column is not None:
        body["start_column"] = body["end_column"] = annotation.column
    return body


def _actions(actions: tuple[Action, ...]) -> Iterator[dict[str, str]]:
    for action in actions[:_ACTIONS]:
        yield {
            "label": one_line(action.label, 20),
            "description": one_line(action.description, 40),
            "identifier": action.identifier[:20],
        }
