"""Pull requests, from this repository or from forks."""

from __future__ import annotations

from tests.services.github import git
from tests.services.github.endpoints.issues import issue_of
from tests.services.github.routing import Ask, Problem, Reply, absent, endpoint
from tests.services.github.state import Issue, PullHalf, Repo

_READ = "pull_requests:read"


def _pull(repo: Repo, number: int) -> tuple[Issue, PullHalf]:
    issue = issue_of(repo, number)
    if issue.pull is None:
        raise absent()
    return issue, issue.pull


def _base(repo: Repo, pull: PullHalf) -> str:
    """What it would be, or was, merged into."""
    if pull.merged_at_s is not None:
        return pull.base
    return git.resolve(repo.folder, f"refs/heads/{pull.base_branch}") or pull.base


def _commits(repo: Repo, pull: PullHalf) -> list[git.Commit]:
    return git.commits(repo.folder, "--reverse", f"{_base(repo, pull)}..{pull.head}")


def _changes(repo: Repo, pull: PullHalf) -> list[git.Change]:
    middle = git.merge_base(repo.folder, _base(repo, pull), pull.head)
    return git.changes(repo.folder, middle, pull.head) if middle else []


@endpoint("GET", "/repos/{owner}/{repo}/pulls", needs=_READ)
def pulls(ask: Ask, repo: Repo) -> Reply:
    state, head, base = ask.query("state", "open"), ask.query("head"), ask.query("base")
    found = []
    for issue in repo.issues.values():
        pull = issue.pull
        if pull is None or (state != "all" and issue.state != state) or (base and pull.base_branch != base):
            continue
        owner = pull.head_repository.owner.login if pull.head_repository else issue.by.login
        if not head or head == f"{owner}:{pull.head_branch}":
            found.append(issue)
    found.sort(key=lambda issue: issue.number, reverse=ask.query("direction", "desc") == "desc")
    return Reply(body=[ask.shapes.pull_list_item(repo, issue) for issue in ask.page(found)])


@endpoint("GET", "/repos/{owner}/{repo}/pulls/{pull_number}", needs=_READ)
def pull(ask: Ask, repo: Repo, pull_number: int) -> Reply:
    issue, half = _pull(repo, pull_number)
    return Reply(body=ask.shapes.pull(repo, issue, len(_commits(repo, half)), _changes(repo, half)))


@endpoint("GET", "/repos/{owner}/{repo}/pulls/{pull_number}/commits", needs=_READ)
def commits(ask: Ask, repo: Repo, pull_number: int) -> Reply:
    # GitHub tells of 250 and no more.
    found = _commits(repo, _pull(repo, pull_number)[1])[:250]
    return Reply(body=[ask.shapes.commit(repo, commit) for commit in ask.page(found)])


@endpoint("GET", "/repos/{owner}/{repo}/pulls/{pull_number}/files", needs=_READ)
def files(ask: Ask, repo: Repo, pull_number: int) -> Reply:
    half = _pull(repo, pull_number)[1]
    return Reply(
        body=[ask.shapes.change(repo, change, half.head) for change in ask.page(_changes(repo, half))]
    )


@endpoint("GET", "/repos/{owner}/{repo}/commits/{commit_sha}/pulls", needs=_READ)
def of_commit(ask: Ask, repo: Repo, commit_sha: str) -> Reply:
    sha = git.resolve(repo.folder, commit_sha)
    if sha is None:
        raise Problem(422, f"No commit found for SHA: {commit_sha}")
    found = [
        issue
        for issue in repo.issues.values()
        if issue.pull and (issue.state == "open" or issue.pull.merged_at_s) and _holds(repo, issue.pull, sha)
    ]
    return Reply(body=[ask.shapes.pull_list_item(repo, issue) for issue in ask.page(found)])


def _holds(repo: Repo, pull: PullHalf, sha: str) -> bool:
    return pull.merge_commit == sha or any(commit.sha == sha for commit in _commits(repo, pull))
