"""What an answer has at hand: the machine's workshop, the repository on GitHub, and the job that it runs in."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from runner.checkout import Remote
from runner.errors import UsageError
from runner.report.facts import Place

if TYPE_CHECKING:
    from runner.github.client import Repository
    from runner.github.features import Features
    from runner.pipeline import Workshop


@dataclass(frozen=True, kw_only=True)
class Job:
    """The job of a workflow that asks, `id` that of its step; `attempt` counts from 1, each time it is run again."""

    id: str
    attempt: int
    url: str


@dataclass(frozen=True, kw_only=True)
class Options:
    """The inputs of the action."""

    train_file: str
    params: tuple[str, ...]
    fresh: bool
    detach: bool


@dataclass(frozen=True, kw_only=True)
class Desk:
    """All of it.

    `quick` is the repository for what must not hold up a run: it gives up soon, to try again later. `token_lasts`
    says whether the token is good for longer than the job, `comes_again` whether who asks does so again by itself after
    an outage of GitHub, so that nobody is told of it; `buttons` whether GitHub tells anybody of the buttons of
    our checks: of those that a job's token made it starts no workflow.
    https://docs.github.com/en/actions/reference/workflows-and-actions/events-that-trigger-workflows#check_run
    """

    shop: Workshop
    repository: Repository
    quick: Repository
    features: Features
    place: Place
    remote: Remote
    job: Job
    options: Options
    results: Path
    default_branch: str
    token_lasts: bool
    buttons: bool
    comes_again: bool = False

    @property
    def name(self) -> str:
        """OWNER/NAME."""
        return self.place.repository


def job(environ: Mapping[str, str]) -> Job:
    """From the variables that GitHub sets for every step."""
    server, repository = environ.get("GITHUB_SERVER_URL", ""), environ.get("GITHUB_REPOSITORY", "")
    run_id, attempt = environ.get("GITHUB_RUN_ID", "0"), environ.get("GITHUB_RUN_ATTEMPT", "")
    names = ("GITHUB_JOB", "GITHUB_ACTION", "PUSHTRAIN_INPUT_KEY")
    step = (environ.get(name, "") for name in names)
    return Job(
        id=re.sub(r"[^A-Za-z0-9_.-]", "_", "-".join((run_id, *filter(None, step)))),
        attempt=int(attempt) if attempt.isdecimal() else 1,
        url=f"{server}/{repository}/actions/runs/{run_id}" if run_id != "0" else "",
    )


def default_branch(environ: Mapping[str, str]) -> str | None:
    """The repository's default branch, if the event tells it: almost all do."""
    try:
        told = json.loads(Path(environ.get("GITHUB_EVENT_PATH", "")).read_bytes())
        found = told["repository"]["default_branch"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return found if isinstance(found, str) else None


def place(environ: Mapping[str, str]) -> Place:
    """The server and the repository. Raises UsageError outside a job of GitHub Actions."""
    repository = environ.get("GITHUB_REPOSITORY", "")
    if repository.count("/") != 1:
        raise UsageError(
            "GITHUB_REPOSITORY is not set: this command answers events inside a job of GitHub Actions",
            tip="pushtrain run",
        )
    return Place(
        server_url=environ.get("GITHUB_SERVER_URL", "https://github.com").rstrip("/"),
        repository=repository,
        job_url=job(environ).url,
    )


def remote(environ: Mapping[str, str], *, token: str | None) -> Remote:
    """Where commits are fetched from."""
    here = place(environ)
    return Remote(url=f"{here.url}.git", token=token)


def read_params(text: str) -> tuple[str, ...]:
    """The pieces name=value of an input of the action, separated by blanks or lines, quoted as in a shell.

    Raises UsageError for a quote that does not end.
    """
    import shlex

    try:
        return tuple(shlex.split(text))
    except ValueError as error:
        raise UsageError(f"params: {text!r}: {error}", tip="`params: lr=0.1 name='two words'`") from error


def metrics_json(values: Mapping[str, float]) -> str:
    """The output `metrics`: one line of JSON, finite numbers only."""
    import math

    return json.dumps({name: value for name, value in sorted(values.items()) if math.isfinite(value)})


def results(environ: Mapping[str, str], *, home: Path) -> Path:
    """The folder for the report and the artifact of this job."""
    chosen = environ.get("PUSHTRAIN_RESULTS") or environ.get("RUNNER_TEMP")
    return Path(chosen or home / "results") / "pushtrain"
