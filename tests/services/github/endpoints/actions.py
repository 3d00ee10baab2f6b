"""Workflow runs."""

from __future__ import annotations

from tests.services.github import git
from tests.services.github.routing import Ask, Problem, Reply, absent, endpoint
from tests.services.github.state import Repo, WorkflowRun


def _run(repo: Repo, run_id: int) -> WorkflowRun:
    found = repo.runs.get(run_id)
    if found is None:
        raise absent()
    return found


@endpoint("GET", "/repos/{owner}/{repo}/actions/runs/{run_id}", needs="actions:read")
def run(ask: Ask, repo: Repo, run_id: int) -> Reply:
    found = _run(repo, run_id)
    return Reply(body=ask.shapes.workflow_run(repo, found, git.commit_of(repo.folder, found.commit)))


@endpoint("POST", "/repos/{owner}/{repo}/actions/runs/{run_id}/cancel", needs="actions:write")
def cancel(ask: Ask, repo: Repo, run_id: int) -> Reply:
    found = _run(repo, run_id)
    if found.status == "completed":
        raise Problem(409, "Cannot cancel a workflow run that is completed.")
    found.status, found.conclusion = "completed", "cancelled"
    return Reply(status=202, body={})
