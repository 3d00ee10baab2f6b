"""Check runs with their annotations, and commit statuses."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from tests.services.github import git
from tests.services.github.routing import Ask, Json, Problem, Reply, absent, endpoint, invalid, required
from tests.services.github.shapes import iso
from tests.services.github.state import CheckRun, Repo, Status

_FIELD_CHARACTERS = 65_535
_ANNOTATIONS = 50
_ACTIONS = 3
_ACTION_CHARACTERS = {"label": 20, "description": 40, "identifier": 20}
_CONCLUSIONS = ("success", "failure", "neutral", "cancelled", "skipped", "timed_out", "action_required")
_PLAIN = ("name", "external_id", "details_url", "started_at", "completed_at", "status")


def _commit(repo: Repo, sha: str) -> str:
    found = git.resolve(repo.folder, sha)
    if found is None:
        raise Problem(422, f"No commit found for SHA: {sha}")
    return found


def _check(repo: Repo, check_run_id: int) -> CheckRun:
    found = repo.checks.get(check_run_id)
    if found is None:
        raise absent()
    return found


def _within(limit: int, text: object) -> None:
    if isinstance(text, str) and len(text) > limit:
        raise Problem(
            422, f"Invalid request.\n\nOnly {limit} characters are allowed; {len(text)} were supplied."
        )


def _at_most(limit: int, items: list[Any]) -> None:
    if len(items) > limit:
        raise Problem(
            422, f"Invalid request.\n\nNo more than {limit} items are allowed; {len(items)} were supplied."
        )


def _judge(body: Json) -> None:
    """Raises the Problem that GitHub would."""
    _judge_output(body.get("output") or {})
    actions = body.get("actions") or []
    _at_most(_ACTIONS, actions)
    for action in actions:
        for name, limit in _ACTION_CHARACTERS.items():
            _within(limit, action.get(name))
    if body.get("status") == "completed" and not body.get("conclusion"):
        raise invalid("CheckRun", "missing_field", "conclusion")
    if body.get("conclusion") not in (None, *_CONCLUSIONS):
        raise invalid("CheckRun", "invalid", "conclusion")
    if body.get("details_url") and urlsplit(body["details_url"]).scheme not in ("http", "https"):
        raise invalid("CheckRun", "custom", "details_url", "details_url must use http or https scheme")


def _judge_output(output: Json) -> None:
    if output and ("summary" not in output or "title" not in output):
        missing = "summary" if "summary" not in output else "title"
        raise Problem(422, f'Invalid request.\n\n"{missing}" wasn\'t supplied.')
    for name in ("summary", "text"):
        _within(_FIELD_CHARACTERS, output.get(name))
    _at_most(_ANNOTATIONS, output.get("annotations") or [])
    for annotation in output.get("annotations") or []:
        _judge_annotation(annotation)


def _judge_annotation(annotation: Json) -> None:
    if annotation["end_line"] < annotation["start_line"]:
        raise invalid("CheckRun", "custom", "annotations", "end_line must be at or after start_line")
    columns = annotation.get("start_column") is not None or annotation.get("end_column") is not None
    if columns and annotation["start_line"] != annotation["end_line"]:
        raise invalid("CheckRun", "custom", "annotations", "start_column and end_column need one line")
    _within(255, annotation.get("title"))
    for name in ("message", "raw_details"):
        _within(64 * 1024, annotation.get(name))


def _apply(ask: Ask, check: CheckRun, body: Json) -> None:
    for name in _PLAIN:
        if body.get(name) is not None:
            setattr(check, name, body[name])
    if body.get("conclusion"):
        check.conclusion, check.status = body["conclusion"], "completed"
        check.completed_at = body.get("completed_at") or check.completed_at or iso(ask.world.now_s)
    elif body.get("status") in ("queued", "in_progress"):
        check.conclusion = check.completed_at = None
    if "output" in body:
        output = body["output"]
        check.output |= {name: output[name] for name in ("title", "summary", "text") if name in output}
        # Those of earlier requests stay.
        check.annotations += output.get("annotations") or []
    if "actions" in body:
        check.actions = body["actions"]


@endpoint("POST", "/repos/{owner}/{repo}/check-runs", needs="checks:write")
def create(ask: Ask, repo: Repo) -> Reply:
    if ask.app is None:
        raise Problem(403, "You must authenticate via a GitHub App.")
    name, sha = required(ask.body, "CheckRun", "name", "head_sha")
    _judge(ask.body)
    check = CheckRun(
        id=ask.world.next_id(), commit=_commit(repo, sha), name=name, app=ask.app, status="queued",
        started_at=iso(ask.world.now_s),
    )  # fmt: skip
    _apply(ask, check, ask.body)
    repo.checks[check.id] = check
    return Reply(status=201, body=ask.shapes.check(repo, check))


@endpoint("PATCH", "/repos/{owner}/{repo}/check-runs/{check_run_id}", needs="checks:write")
def update(ask: Ask, repo: Repo, check_run_id: int) -> Reply:
    check = _check(repo, check_run_id)
    if ask.app is None:
        raise Problem(403, "You must authenticate via a GitHub App.")
    if ask.app is not check.app:
        raise Problem(
            403,
            f"Invalid app_id `{ask.app.id}` - check run can only be modified by the GitHub App that created it.",
        )
    _judge(ask.body)
    _apply(ask, check, ask.body)
    return Reply(body=ask.shapes.check(repo, check))


@endpoint("GET", "/repos/{owner}/{repo}/check-runs/{check_run_id}", needs="checks:read")
def check(ask: Ask, repo: Repo, check_run_id: int) -> Reply:
    return Reply(body=ask.shapes.check(repo, _check(repo, check_run_id)))


@endpoint("GET", "/repos/{owner}/{repo}/check-runs/{check_run_id}/annotations", needs="checks:read")
def annotations_of(ask: Ask, repo: Repo, check_run_id: int) -> Reply:
    found = _check(repo, check_run_id)
    return Reply(body=[ask.shapes.annotation(repo, found, given) for given in ask.page(found.annotations)])


@endpoint("GET", "/repos/{owner}/{repo}/commits/{ref}/check-runs", needs="checks:read", tail="ref")
def of_commit(ask: Ask, repo: Repo, ref: str) -> Reply:
    sha = _commit(repo, ref)
    wanted = {name: ask.query(name) for name in ("check_name", "status", "app_id")}
    found = [one for one in repo.checks.values() if one.commit == sha and _wanted(one, wanted)]
    if ask.query("filter", "latest") == "latest":
        found = list({(one.app.id, one.name): one for one in found}.values())
    found.sort(key=lambda one: one.id, reverse=True)
    page = [ask.shapes.check(repo, one) for one in ask.page(found)]
    return Reply(body={"total_count": len(found), "check_runs": page})


@endpoint("GET", "/repos/{owner}/{repo}/statuses/{ref}", needs="statuses:read")
def old_statuses(ask: Ask, repo: Repo, ref: str) -> Reply:
    """The older address of the same, which PyGithub asks; GitHub's description has it no more."""
    return statuses(ask, repo, ref)


def _wanted(check: CheckRun, wanted: dict[str, str]) -> bool:
    own = {"check_name": check.name, "status": check.status, "app_id": str(check.app.id)}
    return all(not value or own[name] == value for name, value in wanted.items())


@endpoint("POST", "/repos/{owner}/{repo}/statuses/{sha}", needs="statuses:write")
def create_status(ask: Ask, repo: Repo, sha: str) -> Reply:
    (state,) = required(ask.body, "Status", "state")
    _within(140, ask.body.get("description"))
    made = Status(
        id=ask.world.next_id(),
        commit=_commit(repo, sha),
        state=state,
        context=ask.body.get("context") or "default",
        description=ask.body.get("description"),
        target_url=ask.body.get("target_url"),
        by=ask.user,
        at_s=ask.world.now_s,
    )
    repo.statuses.append(made)
    body = ask.shapes.status(repo, made) | {"creator": ask.shapes.user(ask.user)}
    return Reply(status=201, body=body, headers={"Location": body["url"]})


@endpoint("GET", "/repos/{owner}/{repo}/commits/{ref}/statuses", needs="statuses:read", tail="ref")
def statuses(ask: Ask, repo: Repo, ref: str) -> Reply:
    sha = _commit(repo, ref)
    found = [one for one in reversed(repo.statuses) if one.commit == sha]
    body = [ask.shapes.status(repo, one) | {"creator": ask.shapes.user(one.by)} for one in ask.page(found)]
    return Reply(body=body)


@endpoint("GET", "/repos/{owner}/{repo}/commits/{ref}/status", needs="statuses:read", tail="ref")
def combined(ask: Ask, repo: Repo, ref: str) -> Reply:
    sha = _commit(repo, ref)
    latest = list({one.context: one for one in repo.statuses if one.commit == sha}.values())
    states = {one.state for one in latest}
    state = "failure" if states & {"failure", "error"} else "success" if states == {"success"} else "pending"
    body = {
        "state": state,
        "statuses": [ask.shapes.status(repo, one) for one in ask.page(latest)],
        "sha": sha,
        "total_count": len(latest),
        "repository": ask.shapes.minimal_repository(repo),
        "commit_url": ask.shapes.url(repo, f"/commits/{sha}"),
        "url": ask.shapes.url(repo, f"/commits/{sha}/status"),
    }
    return Reply(body=body)
