"""What a new user does with an example: makes it a repository of its own, types the command, looks at the run."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

EXAMPLES = Path(__file__).parents[2] / "examples"
PUSHTRAIN = Path(sys.executable).with_name("pushtrain")


def clone(example: str, folder: Path, *, replaced: dict[str, str] | None = None) -> Path:
    """The example as a repository of its own, with one commit; `replaced` are texts of its train.yml."""
    repository = folder / example
    shutil.copytree(EXAMPLES / example, repository)
    for before, after in (replaced or {}).items():
        text = (repository / "train.yml").read_text(encoding="utf-8")
        assert before in text
        (repository / "train.yml").write_text(text.replace(before, after), encoding="utf-8")
    for arguments in (("init", "-q", "-b", "main"), ("add", "-A"), ("commit", "-q", "-m", "example")):
        named = ("-c", "user.name=Tests", "-c", "user.email=tests@example.org")
        subprocess.run(["git", *named, *arguments], cwd=repository, check=True)
    return repository


def pushtrain(home: Path, *arguments: str | Path) -> str:
    """What the command prints; fails the test with it where the command fails."""
    environment = {**os.environ, "PUSHTRAIN_HOME": str(home)}
    done = subprocess.run([PUSHTRAIN, *arguments], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def shown(home: Path, run: str = "last") -> dict[str, Any]:
    """run.json."""
    document: dict[str, Any] = json.loads(pushtrain(home, "show", run, "--json"))
    return document
