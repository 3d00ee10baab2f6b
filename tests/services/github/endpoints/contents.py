"""A repository, its files, and who may do what on it."""

from __future__ import annotations

import base64
from typing import Any

from tests.services.github import git
from tests.services.github.routing import Ask, Problem, Reply, absent, endpoint
from tests.services.github.state import ROLES, Repo

_INLINE_BYTES = 1024 * 1024
_RAW_BYTES = 100 * 1024 * 1024


@endpoint("GET", "/repos/{owner}/{repo}", needs="metadata:read")
def repository(ask: Ask, repo: Repo) -> Reply:
    body = ask.shapes.full_repository(repo)
    if ask.token.kind == "personal":
        rank = ROLES.index(ask.world.role(repo, ask.user)[0])
        rights = {"pull": 1, "triage": 2, "push": 3, "maintain": 4, "admin": 5}
        body["permissions"] = {name: rank >= needed for name, needed in rights.items()}
    return Reply(body=body)


@endpoint("GET", "/repos/{owner}/{repo}/collaborators/{username}/permission", needs="metadata:read")
def permission(ask: Ask, repo: Repo, username: str) -> Reply:
    if ask.token.kind == "none":
        raise Problem(401, "Requires authentication")
    if ask.token.kind == "personal" and ROLES.index(ask.world.role(repo, ask.user)[0]) < ROLES.index("write"):
        raise Problem(403, "Must have push access to view collaborator permission.")
    user = ask.world.find_user(username)
    if user is None:
        raise Problem(404, f"{username} is not a user")
    role, role_name = ask.world.role(repo, user)
    return Reply(body=ask.shapes.permission(user, role, role_name))


@endpoint("GET", "/repos/{owner}/{repo}/contents/{path}", needs="contents:read", tail="path")
def content(ask: Ask, repo: Repo, path: str) -> Reply:
    ref = ask.query("ref") or repo.default_branch
    commit = git.resolve(repo.folder, ref)
    if commit is None:
        raise Problem(404, f"No commit found for the ref {ref}")
    path = path.strip("/")
    found = git.entry(repo.folder, commit, path) if path else None
    if found is None and path:
        raise absent()
    if found is None or found.kind == "tree":
        listed = git.entries(repo.folder, commit, path) or []
        return Reply(body=[ask.shapes.content(repo, entry, ref) for entry in listed])
    return _file(ask, repo, found, ref)


@endpoint("GET", "/repos/{owner}/{repo}/contents", needs="contents:read")
def root(ask: Ask, repo: Repo) -> Reply:
    return content(ask, repo, "")


def _file(ask: Ask, repo: Repo, entry: git.Entry, ref: str) -> Reply:
    if "raw" in ask.request.headers.get("Accept", ""):
        raw = git.blob(repo.folder, entry.sha)
        return Reply(raw=raw, content_type="application/vnd.github.raw+json; charset=utf-8")
    if entry.size_bytes > _RAW_BYTES:
        raise Problem(403, "This API returns blobs up to 100 MB in size.")
    body: dict[str, Any] = ask.shapes.content(repo, entry, ref)
    if entry.mode == "120000":
        body["target"] = git.blob(repo.folder, entry.sha).decode()
    elif entry.kind == "commit":
        body["submodule_git_url"] = ask.shapes.page(repo)
    elif entry.size_bytes > _INLINE_BYTES:
        body |= {"content": "", "encoding": "none"}
    else:
        body |= {"content": _base64(git.blob(repo.folder, entry.sha)), "encoding": "base64"}
    return Reply(body=body)


def _base64(raw: bytes) -> str:
    """In lines of 60 characters, as GitHub writes it."""
    text = base64.b64encode(raw).decode()
    return "".join(text[begin : begin + 60] + "\n" for begin in range(0, len(text), 60))
