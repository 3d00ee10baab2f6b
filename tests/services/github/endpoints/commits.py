"""Commits, what is between them, and the record of pushes."""

from __future__ import annotations

from tests.services.github import git
from tests.services.github.routing import Ask, Problem, Reply, absent, endpoint
from tests.services.github.state import Repo

_PERIOD_S = {"day": 86_400, "week": 604_800, "month": 2_678_400, "quarter": 8_035_200, "year": 31_622_400}


@endpoint("GET", "/repos/{owner}/{repo}/commits", needs="contents:read")
def commits(ask: Ask, repo: Repo) -> Reply:
    tip = git.resolve(repo.folder, ask.query("sha") or repo.default_branch)
    if tip is None:
        raise absent()
    path = ask.query("path")
    found = git.commits(repo.folder, tip, "--", *([path] if path else []))
    return Reply(body=[ask.shapes.commit(repo, commit) for commit in ask.page(found)])


@endpoint("GET", "/repos/{owner}/{repo}/commits/{ref}", needs="contents:read", tail="ref")
def commit(ask: Ask, repo: Repo, ref: str) -> Reply:
    sha = git.resolve(repo.folder, ref)
    if sha is None:
        raise Problem(422, f"No commit found for SHA: {ref}")
    if "sha" in ask.request.headers.get("Accept", ""):
        return Reply(raw=sha.encode(), content_type="application/vnd.github.sha; charset=utf-8")
    found = git.commit_of(repo.folder, sha)
    changes = git.changes(repo.folder, found.parents[0], sha) if found.parents else []
    added, deleted = sum(change.additions for change in changes), sum(change.deletions for change in changes)
    body = ask.shapes.commit(repo, found) | {
        "stats": {"total": added + deleted, "additions": added, "deletions": deleted},
        "files": [ask.shapes.change(repo, change, sha) for change in changes],
    }
    return Reply(body=body)


@endpoint("GET", "/repos/{owner}/{repo}/branches/{branch}", needs="contents:read", tail="branch")
def branch(ask: Ask, repo: Repo, branch: str) -> Reply:
    found = git.ref(repo.folder, f"refs/heads/{branch}")
    if found is None:
        raise Problem(404, "Branch not found")
    return Reply(body=ask.shapes.branch(repo, branch, git.commit_of(repo.folder, found.sha)))


@endpoint("GET", "/repos/{owner}/{repo}/compare/{basehead}", needs="contents:read", tail="basehead")
def compare(ask: Ask, repo: Repo, basehead: str) -> Reply:
    names = basehead.split("...")
    base, head = (
        (git.resolve(repo.folder, name.rpartition(":")[2]) for name in names)
        if len(names) == 2
        else (None, None)
    )
    if base is None or head is None:
        raise absent()
    middle = git.merge_base(repo.folder, base, head)
    if middle is None:
        raise Problem(404, f"No common ancestor between {names[0]} and {names[1]}.")
    ahead = git.commits(repo.folder, "--reverse", f"{base}..{head}")
    behind = git.commits(repo.folder, f"{head}..{base}")
    status = {(False, False): "identical", (True, False): "ahead", (False, True): "behind"}
    page, api = ask.shapes.page(repo, f"/compare/{basehead}"), ask.shapes.url(repo, f"/compare/{basehead}")
    body = {
        "url": api,
        "html_url": page,
        "permalink_url": ask.shapes.page(repo, f"/compare/{base}...{head}"),
        "diff_url": f"{page}.diff",
        "patch_url": f"{page}.patch",
        "base_commit": ask.shapes.commit(repo, git.commit_of(repo.folder, base)),
        "merge_base_commit": ask.shapes.commit(repo, git.commit_of(repo.folder, middle)),
        "status": status.get((bool(ahead), bool(behind)), "diverged"),
        "ahead_by": len(ahead),
        "behind_by": len(behind),
        "total_commits": len(ahead),
        "commits": [ask.shapes.commit(repo, commit) for commit in ask.page(ahead)],
        "files": [ask.shapes.change(repo, change, head) for change in git.changes(repo.folder, middle, head)],
    }
    return Reply(body=body)


@endpoint("GET", "/repos/{owner}/{repo}/activity", needs="contents:read")
def activity(ask: Ask, repo: Repo) -> Reply:
    ref, actor, kind, period = (ask.query(name) for name in ("ref", "actor", "activity_type", "time_period"))
    since_s = ask.world.now_s - _PERIOD_S[period] if period else 0.0
    found = [
        known
        for known in repo.activity
        if (not ref or known.ref in (ref, f"refs/heads/{ref}"))
        and (not actor or known.by.login == actor)
        and (not kind or known.kind == kind)
        and known.at_s >= since_s
    ]
    found.sort(key=lambda known: (known.at_s, known.id), reverse=ask.query("direction", "desc") == "desc")
    return Reply(body=[ask.shapes.activity(known) for known in ask.cursor_page(found)])


@endpoint("GET", "/repos/{owner}/{repo}/git/commits/{commit_sha}", needs="contents:read")
def git_commit(ask: Ask, repo: Repo, commit_sha: str) -> Reply:
    if git.kind_of(repo.folder, commit_sha) != "commit":
        raise absent()
    return Reply(body=ask.shapes.git_commit(repo, git.commit_of(repo.folder, commit_sha)))
