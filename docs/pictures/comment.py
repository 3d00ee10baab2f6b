"""Two real runs of examples/sklearn-digits -> the comment on a pull request: `python docs/pictures/comment.py FILE.md`.

Nothing is written by hand: the first run is of the branch main, the second of a branch with another input, and the
comment is what the second would get as pull request 12 of a repository on GitHub.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from runner import runs
from runner.answer import knowledge
from runner.report import comment
from runner.report.facts import Place
from runner.store import open_store

EXAMPLE = Path(__file__).parents[2] / "examples" / "sklearn-digits"
PLACE = Place(
    server_url="https://github.com",
    repository="example/digits",
    job_url="https://github.com/example/digits/actions/runs/7",
)
WHO = {"NAME": "Example", "EMAIL": "example@example.com", "DATE": "2026-01-01T00:00:00Z"}


def git(folder: Path, *arguments: str) -> None:
    """Run git as nobody in particular, at one time, so that the commits are the same each time."""
    environ = {f"GIT_{role}_{name}": value for role in ("AUTHOR", "COMMITTER") for name, value in WHO.items()}
    subprocess.run(
        ["git", *arguments], cwd=folder, check=True, env={**os.environ, **environ}, stdout=sys.stderr
    )


def repository(folder: Path) -> None:
    """A repository of the example on main, its metric held against the last run."""
    shutil.copytree(EXAMPLE, folder, ignore=shutil.ignore_patterns("outputs", "logs", "__pycache__"))
    wanted = (folder / "train.yml").read_text().replace('"< 0.9"', '"< base - 0.01"')
    (folder / "train.yml").write_text(wanted)
    git(folder, "init", "--quiet", "--initial-branch", "main")
    git(folder, "add", ".")
    git(folder, "commit", "--quiet", "--message", "Read handwritten digits")


def train(folder: Path, store: Path, *, value: str) -> str:
    """One run; returns its id."""
    command = ["pushtrain", "run", str(folder), "-p", f"regularization={value}", "--store", str(store)]
    subprocess.run(command, check=True, stdout=sys.stderr)
    return runs.ids(open_store(str(store)))[0]


def body(work: Path) -> str:
    """The comment of the second run."""
    folder, store = work / "digits", work / "store"
    repository(folder)
    train(folder, store, value="0.01")
    git(folder, "checkout", "--quiet", "-b", "more-regularization")
    git(folder, "commit", "--quiet", "--allow-empty", "--message", "Regularize more")
    run_id = train(folder, store, value="1")
    opened = open_store(str(store))
    known = knowledge.background(opened, run_id)
    asked = replace(known.plan.asked, trigger="comment", pull=12, base="main")
    known = replace(known, plan=replace(known.plan, asked=asked))
    facts = knowledge.facts(opened, runs.load(opened, run_id), known, place=PLACE, notes=())
    tag = f"https://github.com/example/digits/releases/tag/{(facts.run.release or '').replace('@', '@v')}"
    return comment.body(replace(facts, store="s3://example-training/runs", release_url=tag))


def main(argv: list[str]) -> int:
    """Train twice and write the comment. Takes a minute."""
    with tempfile.TemporaryDirectory() as work:
        os.environ["PUSHTRAIN_HOME"] = str(Path(work, "home"))
        text = body(Path(work))
    Path(argv[0]).write_text(text + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
