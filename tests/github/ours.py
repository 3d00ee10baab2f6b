"""What the tests of runner/github share: a repository with a pull request, and our connection to it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runner.github import check, client
from runner.github.check import Annotation, Check
from tests.fakes.clock import SkippingClock
from tests.services.github import GitHub, Repository

PATIENCE_S = 900.0


@dataclass(frozen=True, kw_only=True)
class Ours:
    """`theirs` is the repository on the stand-in, `repository` what we see of it; `commit` the pull request's head."""

    github: GitHub
    theirs: Repository
    repository: client.Repository
    clock: SkippingClock
    commit: str
    pull: int


def ours(
    github: GitHub, *, auth: client.Auth | None = None, cache: Path | None = None, api: str = ""
) -> Ours:
    theirs = github.repository("lab/mnist", {"train.yml": "name: mnist\n"})
    theirs.grant("ann", "write")
    commit = theirs.push("lr", {"a.py": "1\n"}, by="ann")
    pull = theirs.pull("lr", by="ann").number
    clock = SkippingClock()
    repository = connected(github, auth=auth, cache=cache, clock=clock, api=api)
    return Ours(github=github, theirs=theirs, repository=repository, clock=clock, commit=commit, pull=pull)


def connected(
    github: GitHub,
    *,
    auth: client.Auth | None = None,
    cache: Path | None = None,
    clock: SkippingClock | None = None,
    api: str = "",
) -> client.Repository:
    return client.connect(
        api_url=github.url + api,
        repository="lab/mnist",
        auth=auth or client.Token(value=github.token),
        cache=cache,
        patience_s=PATIENCE_S,
        clock=clock or SkippingClock(),
    )


def a_check(commit: str, **changes: Any) -> Check:
    said: dict[str, Any] = {
        "name": "pushtrain / mnist",
        "commit": commit,
        "external_id": "run-1",
        "details_url": "",
        "status": "in_progress",
        "conclusion": None,
        "started_at_s": 1_700_000_000.0,
        "completed_at_s": None,
        "title": "Training",
        "summary": "It goes on.",
        "text": "",
    }
    return check.Check(**{**said, **changes})


def faults(count: int) -> tuple[Annotation, ...]:
    return tuple(
        Annotation(
            path="train.yml", line=n + 1, column=None, level="failure", title="A fault", message=f"number {n}"
        )
        for n in range(count)
    )
