"""Branches, tags and tag objects."""

from __future__ import annotations

from tests.services.github import git
from tests.services.github.routing import Ask, Json, Problem, Reply, absent, endpoint, required
from tests.services.github.state import Repo

_KINDS = ("commit", "tree", "blob")


@endpoint("GET", "/repos/{owner}/{repo}/git/ref/{ref}", needs="contents:read", tail="ref")
def ref(ask: Ask, repo: Repo, ref: str) -> Reply:
    found = git.ref(repo.folder, f"refs/{ref}")
    if found is None:
        raise absent()
    return Reply(body=ask.shapes.ref(repo, found))


@endpoint("GET", "/repos/{owner}/{repo}/git/matching-refs/{ref}", needs="contents:read", tail="ref")
def matching(ask: Ask, repo: Repo, ref: str) -> Reply:
    found = git.refs(repo.folder, f"refs/{ref}")
    return Reply(body=[ask.shapes.ref(repo, one) for one in ask.page(found)])


@endpoint("POST", "/repos/{owner}/{repo}/git/refs", needs="contents:write")
def create(ask: Ask, repo: Repo) -> Reply:
    name, sha = required(ask.body, "Reference", "ref", "sha")
    if not name.startswith("refs/") or name.count("/") < 2 or not _well_formed(repo, name):
        raise Problem(422, f"{name} is not a valid ref name.")
    if git.ref(repo.folder, name):
        raise Problem(422, "Reference already exists")
    _existing(repo, sha)
    if name.startswith("refs/heads/") and git.kind_of(repo.folder, sha) != "commit":
        raise Problem(422, "Reference update failed")
    git.set_ref(repo.folder, name, sha)
    ask.world.moved(repo, name, git.NOTHING, sha, by=ask.user, at_s=ask.world.now_s)
    made = git.ref(repo.folder, name)
    assert made
    body = ask.shapes.ref(repo, made)
    return Reply(status=201, body=body, headers={"Location": body["url"]})


@endpoint("PATCH", "/repos/{owner}/{repo}/git/refs/{ref}", needs="contents:write", tail="ref")
def update(ask: Ask, repo: Repo, ref: str) -> Reply:
    (sha,) = required(ask.body, "Reference", "sha")
    found = git.ref(repo.folder, f"refs/{ref}")
    if found is None:
        raise Problem(422, "Reference does not exist")
    _existing(repo, sha)
    if not ask.body.get("force") and not git.is_ancestor(repo.folder, found.sha, sha):
        raise Problem(422, "Update is not a fast forward")
    git.set_ref(repo.folder, found.name, sha)
    ask.world.moved(repo, found.name, found.sha, sha, by=ask.user, at_s=ask.world.now_s)
    made = git.ref(repo.folder, found.name)
    assert made
    return Reply(body=ask.shapes.ref(repo, made))


@endpoint("DELETE", "/repos/{owner}/{repo}/git/refs/{ref}", needs="contents:write", tail="ref")
def delete(ask: Ask, repo: Repo, ref: str) -> Reply:
    found = git.ref(repo.folder, f"refs/{ref}")
    if found is None:
        raise Problem(422, "Reference does not exist")
    git.delete_ref(repo.folder, found.name)
    ask.world.moved(repo, found.name, found.sha, git.NOTHING, by=ask.user, at_s=ask.world.now_s)
    return Reply(status=204)


def _well_formed(repo: Repo, name: str) -> bool:
    try:
        git.run(repo.folder, "check-ref-format", name)
    except git.GitFailed:
        return False
    return True


def _existing(repo: Repo, sha: str) -> None:
    if len(sha) != 40 or git.kind_of(repo.folder, sha) is None:
        raise Problem(422, "Object does not exist")


@endpoint("POST", "/repos/{owner}/{repo}/git/tags", needs="contents:write")
def create_tag(ask: Ask, repo: Repo) -> Reply:
    name, message, sha, kind = required(ask.body, "Tag", "tag", "message", "object", "type")
    if kind not in _KINDS or git.kind_of(repo.folder, sha) != kind:
        raise Problem(422, "Could not verify object")
    by = ask.world.identity(ask.user)
    tagger = ask.body.get("tagger")
    if tagger:
        by = git.Identity(name=tagger["name"], email=tagger["email"], at_s=by.at_s)
    made = git.make_tag(repo.folder, name=name, sha=sha, kind=kind, message=message, by=by)
    body = _tag(ask, repo, made)
    return Reply(status=201, body=body, headers={"Location": body["url"]})


@endpoint("GET", "/repos/{owner}/{repo}/git/tags/{tag_sha}", needs="contents:read")
def tag(ask: Ask, repo: Repo, tag_sha: str) -> Reply:
    if git.kind_of(repo.folder, tag_sha) != "tag":
        raise absent()
    return Reply(body=_tag(ask, repo, tag_sha))


def _tag(ask: Ask, repo: Repo, sha: str) -> Json:
    return ask.shapes.tag_object(repo, sha, git.run(repo.folder, "cat-file", "tag", sha).decode())


@endpoint("GET", "/repos/{owner}/{repo}/tags", needs="contents:read")
def tags(ask: Ask, repo: Repo) -> Reply:
    found = ask.page(reversed(git.refs(repo.folder, "refs/tags/")))
    body = []
    for one in found:
        commit = git.resolve(repo.folder, one.name)
        if commit:
            body.append(ask.shapes.tag(repo, one.name.removeprefix("refs/tags/"), commit))
    return Reply(body=body)
