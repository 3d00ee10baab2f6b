"""A team's repository on the stand-in for GitHub, and the jobs of its runner, which run the real `pushtrain`."""

from __future__ import annotations

import itertools
import json
import textwrap
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from runner.runs import Run
from tests.engines.project import HELD, WITHIN_S, Command, Finished, Project, wait_for
from tests.services import events
from tests.services.events import Event, Webhooks
from tests.services.github import GitHub
from tests.services.github.server import Repository
from tests.services.github.state import CheckRun, Comment, Issue

TRAINS = """
import json, pathlib, sys
arguments = dict(zip(sys.argv[1::2], sys.argv[2::2]))
accuracy = float(arguments.get("--accuracy", "0.9"))
with open("logs/metrics.jsonl", "w") as log:
    for step in range(1, 6):
        log.write(json.dumps({"step": step, "accuracy": accuracy * step / 5}) + "\\n")
pathlib.Path("outputs/model").mkdir()
pathlib.Path("outputs/model/weights.bin").write_bytes(b"weights of %r" % accuracy)
print("trained")
"""

DOCUMENT: dict[str, Any] = {
    "name": "digits",
    "on": {"push": {"branches": ["main"]}, "comment": {"roles": ["write"]}, "dispatch": True},
    "inputs": {"accuracy": {"type": "number", "default": 0.9}},
    "run": "python3 train.py --accuracy ${{ inputs.accuracy }}",
    "metrics": {"primary": "accuracy", "goal": "maximize", "fail_if": "< 0.5"},
    "timeout": {"grace": "5s"},
    "release": {
        "model": "digits",
        "path": "outputs/model",
        "framework": "scikit-learn",
        "framework_version": "1.5",
        "when": {"branch": "main"},
    },
}


def train_yml(**sections: Any) -> str:
    """A train.yml; a section that is None is left out."""
    document = {**DOCUMENT, **sections}
    return yaml.safe_dump({name: value for name, value in document.items() if value is not None})


def files(script: str = TRAINS, **sections: Any) -> dict[str, str | bytes | None]:
    """The files of a commit."""
    return {"train.yml": train_yml(**sections), "train.py": HELD + textwrap.dedent(script)}


def team(
    github: GitHub,
    node_modules: Path,
    *,
    name: str = "lab/digits",
    content: Mapping[str, str | bytes | None] | None = None,
) -> tuple[Repository, Webhooks]:
    """A repository of which ada may write and eve may read, with a training unless it is said what; and its events."""
    repository = github.repository(name, files() if content is None else content)
    repository.grant("ada", "write")
    repository.grant("eve", "read")
    webhooks = Webhooks(
        node_modules=node_modules,
        repository=repository.name,
        head=repository.head(),
        server_url=github.url,
        api_url=github.url,
    )
    return repository, webhooks


@dataclass
class Scene:
    """`repository` is the team's; `project` has the runner's PUSHTRAIN_HOME and watches over its processes."""

    project: Project
    github: GitHub
    repository: Repository
    webhooks: Webhooks
    folder: Path
    token: str
    environ: dict[str, str] = field(default_factory=dict)
    within_s: float = WITHIN_S
    _numbers: Callable[[], int] = field(default_factory=lambda: itertools.count(1000).__next__)

    # What people do

    def push(self, script: str = TRAINS, *, branch: str = "main", by: str = "ada", **sections: Any) -> Event:
        """Somebody pushes a commit; returns the event."""
        return self.pushed(files(script, **sections), branch=branch, by=by)

    def pushed(
        self,
        content: Mapping[str, str | bytes | None],
        *,
        branch: str = "main",
        by: str = "ada",
        message: str = "Train longer",
    ) -> Event:
        """The same with files as they are given."""
        there = f"refs/heads/{branch}" in self.repository.text("for-each-ref", "--format=%(refname)")
        before = self.repository.head(branch) if there else None
        commit = self.repository.push(branch, content, message, by=by)
        return self.webhooks.push(commit, branch=branch, before=before, by=by, message=message)

    def pull(self, script: str = TRAINS, *, branch: str = "try", **sections: Any) -> Issue:
        """A pull request from a branch of the repository, whose head is some seconds old."""
        self.repository.push(branch, files(script, **sections), "Try", by="ada", at_s=time.time() - 60)
        return self.repository.pull(branch, by="ada")

    def comment(self, pull: Issue, body: str, *, by: str = "ada") -> Event:
        """Somebody comments on a pull request."""
        return self.told(self.repository.comment(pull.number, body, by=by), pull)

    def told(self, comment: Comment, pull: Issue, *, edited: bool = False) -> Event:
        """The event of a comment that is there."""
        return self.webhooks.issue_comment(
            comment.body,
            pull=pull.number,
            by=comment.by.login,
            kind="Bot" if comment.by.kind == "Bot" else "User",
            action="edited" if edited else "created",
            id=comment.id,
            at_s=comment.created_at_s,
            edited_at_s=comment.updated_at_s,
        )

    # What the runner does

    def start(self, event: Event, *, run_id: int | None = None, attempt: int = 1, **inputs: str) -> Command:
        """A job begins; `inputs` are PUSHTRAIN_INPUT_*."""
        number = run_id or self._numbers()
        place = self.folder / f"job-{number}-{attempt}"
        place.mkdir()
        for name in ("output", "summary"):
            (place / name).touch()
        self.project.environ |= {
            **events.environ(event, events.write(place, event), run_id=number, attempt=attempt),
            "PUSHTRAIN_TOKEN": self.token,
            "GITHUB_OUTPUT": str(place / "output"),
            "GITHUB_STEP_SUMMARY": str(place / "summary"),
            "PUSHTRAIN_RESULTS": str(place / "results"),
            **{f"PUSHTRAIN_INPUT_{name.upper()}": value for name, value in inputs.items()},
            **self.environ,
        }
        try:
            return self.project.start("github", "event")
        finally:
            for name in inputs:
                del self.project.environ[f"PUSHTRAIN_INPUT_{name.upper()}"]

    def job(self, event: Event, **how: Any) -> Finished:
        """A job runs to its end."""
        return self.start(event, **how).finish()

    def outputs(self, number: int | None = None) -> dict[str, str]:
        """The outputs of the newest job, or of that one."""
        return read_outputs(self._place(number) / "output")

    def summary(self) -> str:
        """The job summary of the newest job."""
        return (self._place(None) / "summary").read_text()

    def _place(self, number: int | None) -> Path:
        found = sorted(self.folder.glob(f"job-{number or '*'}-*"), key=lambda path: path.stat().st_mtime_ns)
        return found[-1]

    # What is there then

    @property
    def run(self) -> Run:
        """The newest run."""
        return self.project.run

    @property
    def check(self) -> CheckRun:
        """The newest check."""
        return self.repository.checks()[-1]

    def until_check(self, **wanted: str) -> CheckRun:
        """The newest check once it is as wanted."""

        def there() -> CheckRun | None:
            checks = self.repository.checks()
            found = checks[-1] if checks else None
            same = found is not None and all(getattr(found, name) == value for name, value in wanted.items())
            return found if same else None

        found = wait_for(
            there, what=f"a check that is {wanted}", told=self.project.told, within_s=self.within_s
        )
        assert found is not None
        return found

    def answers(self, pull: Issue) -> list[str]:
        """What bots said in a pull request."""
        return [each.body for each in self.repository.comments(pull.number) if each.by.kind == "Bot"]

    def reactions(self, pull: Issue) -> list[str]:
        """The reactions to the newest comment of a person."""
        people = [each for each in self.repository.comments(pull.number) if each.by.kind == "User"]
        return [each.content for each in people[-1].reactions]


def read_outputs(path: Path) -> dict[str, str]:
    """What a step wrote to GITHUB_OUTPUT."""
    found, lines = {}, iter(path.read_text().splitlines())
    for line in lines:
        name, _, end = line.partition("<<")
        found[name] = "\n".join(itertools.takewhile(end.__ne__, lines))
    return found


def metrics(outputs: Mapping[str, str]) -> dict[str, float]:
    """The output `metrics`."""
    found: dict[str, float] = json.loads(outputs["metrics"])
    return found
